"""A step on a CPU runs as it is written."""

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


def test_a_step_that_changes_its_inputs_is_refused_where_it_is_called() -> None:
    captured = make_harness().capture(lambda x: x.add_(1))
    x = torch.zeros(3)
    with pytest.raises(UserError, match=r"`captured\(x\)`: a captured step must not change its"):
        captured(x)
