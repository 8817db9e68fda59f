"""Progress in a notebook: one line of output that is updated in place."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

_INTERVAL = 1.0  # seconds between two updates


class _Display(Protocol):
    """IPython's handle of an output, by which it is replaced."""

    def update(self, data: Any, *, raw: bool) -> None: ...


def line() -> "Line | None":
    """Return a line below the current cell of a notebook; None outside notebooks."""
    # Without importing IPython: where it is not loaded, this is no notebook.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or type(shell).__name__ == "TerminalInteractiveShell":
        return None
    from IPython.display import display  # type: ignore[import-not-found] # noqa: PLC0415

    handle = display(_bundle(""), raw=True, display_id=True)
    return Line(handle) if handle else None


class Line:
    """Progress of loops as one line of text, updated at most once a second.

    Args:
        handle: the output.
    """

    def __init__(self, handle: _Display) -> None:
        self._handle = handle
        self._shown = -_INTERVAL

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`, of which the first is above 0 in a resumed run."""
        started, first = time.monotonic(), None
        for step in steps:
            first = step if first is None else first
            now = time.monotonic()
            if now - self._shown >= _INTERVAL:
                self._shown = now
                text = f"{label}: step {step} of {total}"
                if step > first:
                    left = (now - started) / (step - first) * (total - step)
                    text += f", {left // 60:.0f}:{left % 60:02.0f} left in this loop"
                self.show(text)
            yield step

    def show(self, text: str) -> None:
        """Replace the line."""
        self._handle.update(_bundle(text), raw=True)


def _bundle(text: str) -> dict[str, str]:
    return {"text/plain": text}
