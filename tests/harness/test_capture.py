"""What a captured step says and does that needs no GPU; the rest is in tests/gpu."""

import pytest
import torch
from helpers import make_harness

from unlearnable_bench import UserError


def test_on_a_cpu_a_captured_step_is_the_step() -> None:
    harness = make_harness()
    captured = harness.capture(lambda x: x + 1)
    for count in (3, 4):
        assert torch.equal(captured(torch.zeros(count)), torch.ones(count))
    assert harness.times["warmup"] == 0


def test_another_shape_is_refused_with_the_line_that_brings_it() -> None:
    captured = make_harness().capture(lambda x: x + 1)
    captured._inputs = (torch.ones(3),)
    captured._take((torch.zeros(3),))
    assert torch.equal(captured._inputs[0], torch.zeros(3))
    line = r"test_capture.py:\d+: `captured._take\(\(torch.ones\(4\),\)\)`"
    with pytest.raises(UserError, match=line + r": .* first \[3\], now \[4\]; capture"):
        captured._take((torch.ones(4),))
