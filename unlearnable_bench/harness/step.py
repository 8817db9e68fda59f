"""Steps of loops: functions that are called many times on tensors of fixed shapes."""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearnable_bench.errors import UserError

_OWN_FOLDERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))

_running = threading.local()


@contextmanager
def one_step() -> Iterator[None]:
    """Mark a step, within which weights change only by calls that Python can observe.

    Data derived from weights may be reused within a step but not after it, since the replay of a
    CUDA graph changes weights unobserved. A step within a step belongs to the outer one.
    """
    around = current_step()
    _running.step = around or object()
    try:
        yield
    finally:
        _running.step = around


def current_step() -> object:
    """Return a token of this thread's current step, or None outside steps."""
    return getattr(_running, "step", None)


def outside_graphs(function: Callable[[], None]) -> None:
    """Run a function of a step that cannot be part of a CUDA graph, such as a transfer.

    A step that is being captured notes it, and calls it in each replay between two graphs.

    Args:
        function: reads and writes tensors in place.
    """
    note: Callable[[Callable[[], None]], None] | None = getattr(_running, "note", None)
    (note or _call)(function)


def _call(function: Callable[[], None]) -> None:
    function()


@contextmanager
def noting(note: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """Give the functions of `outside_graphs` to `note`, for as long as a step is captured."""
    _running.note = note
    try:
        yield
    finally:
        _running.note = None


class Step:
    """An uncaptured step, which checks that it does not change its inputs.

    Args:
        function: takes tensors of fixed shapes, returns tensors or None, and has all its state
            in tensors that it changes in place.

    Attributes:
        warm_calls: number of warm-up calls before the step runs at full speed.
    """

    warm_calls: int = 0

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *inputs: Tensor) -> Any:
        """Run the step.

        Raises:
            UserError: the step changes its inputs; the message names the line.
        """
        return self.run(inputs)

    def run(self, inputs: tuple[Tensor, ...]) -> Any:
        """Run the step as written."""
        before = [x._version for x in inputs]  # noqa: SLF001
        with one_step():
            outputs = self._function(*inputs)
        if before != [x._version for x in inputs]:  # noqa: SLF001
            raise UserError(
                f"{line_of(traceback.extract_stack())}: a captured step must not change its "
                "inputs, which are copies on a GPU; change tensors of the function around it"
            )
        return outputs


def line_of(frames: traceback.StackSummary, *folders: str) -> str:
    """Return file, line and text of the innermost frame outside torch, this and other folders."""
    ours = (*_OWN_FOLDERS, *folders)
    own = [f for f in frames if not f.filename.startswith(ours)]
    frame = (own or list(frames))[-1]
    return f"{frame.filename}:{frame.lineno}: `{frame.line}`"
