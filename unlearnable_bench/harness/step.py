"""A step of a loop: a function that does the same to the same tensors, time after time."""

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
    """Mark work in which weights change only through calls that Python sees.

    What is derived from weights may be reused within one step, and no longer: a replayed
    CUDA graph changes them unseen. A step inside a step is part of it.
    """
    around = current_step()
    _running.step = around or object()
    try:
        yield
    finally:
        _running.step = around


def current_step() -> object:
    """Return a token for the step that this thread is in, or None."""
    return getattr(_running, "step", None)


class Step:
    """A step as it is written; checks that it leaves its inputs alone.

    Args:
        function: takes tensors of fixed shapes, returns tensors or nothing, and keeps all
            state in tensors that it changes in place.

    Attributes:
        warm_calls: number of calls before those that run at full speed.
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
    """Return file, line and text of the innermost frame outside torch, this folder and others."""
    ours = (*_OWN_FOLDERS, *folders)
    own = [f for f in frames if not f.filename.startswith(ours)]
    frame = (own or list(frames))[-1]
    return f"{frame.filename}:{frame.lineno}: `{frame.line}`"
