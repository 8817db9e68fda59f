"""What a captured step says and does that needs no GPU; the rest is in tests/gpu."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from unlearnable_bench import UserError
from unlearnable_bench.fast import graphs
from unlearnable_bench.fast.graphs import CapturedStep
from unlearnable_bench.harness.timesheet import Timesheet


def captured_step(function: object) -> CapturedStep:
    return CapturedStep(function, torch.device("cpu"), Timesheet())  # type: ignore[arg-type]


def test_another_shape_is_refused_with_the_line_that_brings_it() -> None:
    captured = captured_step(lambda x: x + 1)
    captured._inputs = (torch.ones(3),)
    captured._take((torch.zeros(3),))
    assert torch.equal(captured._inputs[0], torch.zeros(3))
    line = r"test_graphs.py:\d+: `captured._take\(\(torch.ones\(4\),\)\)`"
    with pytest.raises(
        UserError, match=line + r": captured with float32 \[3\], called with float32 \[4\];"
    ):
        captured._take((torch.ones(4),))
    with pytest.raises(
        UserError, match=r"with float32 \[3\], called with int64 \[3\]; call harness.capture"
    ):
        captured._take((torch.ones(3, dtype=torch.int64),))


@pytest.mark.parametrize(
    ("broken", "expected", "words"),
    [
        (RuntimeError("operation not permitted"), UserError, "cannot be captured: .*not permitted"),
        (torch.OutOfMemoryError("full"), torch.OutOfMemoryError, "full"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (ValueError("of the step"), ValueError, "of the step"),
    ],
)
def test_what_breaks_a_capture_is_reported_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
    broken: BaseException,
    expected: type[BaseException],
    words: str | None,
) -> None:
    @contextmanager
    def capturing(*_: object) -> Iterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("the capture was not joined")

    streams: list[object] = []
    forgotten: list[object] = []
    monkeypatch.setattr(graphs, "_capturing", capturing)
    monkeypatch.setattr(graphs, "_forget_broken_capture", lambda *x: forgotten.append(x))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "around")
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)

    def step() -> None:
        raise broken

    with pytest.raises(expected, match=words):
        captured_step(step)._capture()
    assert streams == ["around"]
    assert forgotten == [("pool", torch.device("cpu"))]
