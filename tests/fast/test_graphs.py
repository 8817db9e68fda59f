"""What a captured step says and does that needs no GPU; the rest is in tests/gpu."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from unlearnable_bench import UserError
from unlearnable_bench.fast import graphs
from unlearnable_bench.fast.graphs import CapturedStep
from unlearnable_bench.harness.step import outside_graphs
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


def test_a_transfer_within_a_step_divides_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs and the transfers between them are replayed in the order of the step."""
    log: list[str] = []
    made: list[object] = []

    class Graph:
        def __init__(self) -> None:
            made.append(self)
            self.name = f"graph {len(made)}"

        def capture_begin(self, pool: object, *, capture_error_mode: str) -> None:
            log.append(f"begin {self.name} in {pool}, {capture_error_mode}")

        def capture_end(self) -> None:
            log.append(f"end {self.name}")

        def replay(self) -> None:
            log.append(self.name)

    class Capturing:
        def __init__(self, graph: Graph, pool: object, _device: object) -> None:
            self.cuda_graph, self.pool = graph, pool

        def __enter__(self) -> None:
            self.cuda_graph.capture_begin(self.pool, capture_error_mode="first")

        def __exit__(self, *_: object) -> None:
            self.cuda_graph.capture_end()

    def step() -> str:
        outside_graphs(lambda: log.append("transfer 1"))
        outside_graphs(lambda: log.append("transfer 2"))
        return "result"

    monkeypatch.setattr(graphs, "_capturing", Capturing)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "around")
    captured = captured_step(step)
    captured._capture()
    replayed = ["graph 1", "transfer 1", "graph 2", "transfer 2", "graph 3"]
    assert log == [
        "begin graph 1 in pool, first",
        "end graph 1",
        "begin graph 2 in pool, global",
        "end graph 2",
        "begin graph 3 in pool, global",
        "end graph 3",
        *replayed,
    ]
    assert captured() == "result"
    assert log[-5:] == replayed
    outside_graphs(lambda: log.append("after the capture"))
    assert log[-1] == "after the capture"
