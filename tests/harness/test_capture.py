"""What a captured step says and does that needs no GPU; the rest is in tests/gpu."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers import make_harness
from torch import Tensor

from unlearnable_bench import UserError
from unlearnable_bench.harness import capture
from unlearnable_bench.harness.capture import EXCLUSIVE, fused


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
    with pytest.raises(UserError, match=line + r": .* first float32 \[3\], now float32 \[4\];"):
        captured._take((torch.ones(4),))
    with pytest.raises(UserError, match=r"first float32 \[3\], now int64 \[3\]; capture"):
        captured._take((torch.ones(3, dtype=torch.int64),))


def test_a_step_that_changes_its_inputs_is_refused_where_it_is_called() -> None:
    captured = make_harness().capture(lambda x: x.add_(1))
    x = torch.zeros(3)
    with pytest.raises(UserError, match=r"`captured\(x\)`: a captured step must not change its"):
        captured(x)


class OnCard(torch.Tensor):
    is_cuda = True


def test_a_backward_pass_does_not_wait_for_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it runs in a thread of its own, while the thread with the lock waits for it."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    doubled = fused(lambda g: 2 * g)

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(_ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(_ctx: Any, *grads: Tensor) -> Tensor:
            return doubled(grads[0].as_subclass(OnCard))

    x = torch.zeros(3, requires_grad=True)
    pass_back = Double.apply(x).sum().backward  # type: ignore[no-untyped-call]
    with EXCLUSIVE:
        thread = threading.Thread(target=pass_back, daemon=True)
        thread.start()
        thread.join(20)
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2, 2]


def test_what_is_compiled_is_compiled_and_called_under_the_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[bool] = []

    def taken() -> bool:
        def attempt() -> None:
            found.append(EXCLUSIVE.acquire(blocking=False))
            if found[-1]:
                EXCLUSIVE.release()

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return not found[-1]

    def compiler(function: Callable[..., Any], **_options: Any) -> Callable[..., Any]:
        assert taken()
        return function

    monkeypatch.setattr(torch, "compile", compiler)
    function = fused(lambda _x: taken())
    for size in (1, 2):
        x = torch.zeros(size).as_subclass(OnCard)
        assert function(x)
        assert not function(x)  # compiled for this before: nobody waits for who compiles now


@pytest.mark.parametrize(
    ("broken", "expected", "words"),
    [
        (RuntimeError("operation not permitted"), UserError, "cannot be captured: .*not permitted"),
        (torch.OutOfMemoryError("full"), torch.OutOfMemoryError, "full"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (ValueError("of the step"), ValueError, "of the step"),
    ],
)
def test_what_breaks_a_recording_is_told_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
    broken: BaseException,
    expected: type[BaseException],
    words: str | None,
) -> None:
    @contextmanager
    def recording(*_: object) -> Iterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("the recording was not joined")

    streams: list[object] = []
    forgotten: list[object] = []
    monkeypatch.setattr(capture, "_recording", recording)
    monkeypatch.setattr(capture, "_forget_broken_recording", lambda *x: forgotten.append(x))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "around")
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)

    def step() -> None:
        raise broken

    with pytest.raises(expected, match=words):
        make_harness().capture(step)._record()
    assert streams == ["around"]
    assert forgotten == [("pool", torch.device("cpu"))]
