"""Progress of long loops, and their interruption."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Shows the progress of loops.

    Examples:
        >>> class Steps:
        ...     def track(self, label, total, steps):
        ...         for step in steps:
        ...             print(f"{label}: {step + 1}/{total}")
        ...             yield step
        >>> from unlearnable_bench import Progress
        >>> progress: Progress = Steps()
        >>> for _ in progress.track("training", 2, range(2)):
        ...     pass
        training: 1/2
        training: 2/2
    """

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`, numbers below `total`, and show the progress."""
        ...


class Silent:
    """Progress that is not shown: the default in notebooks and tests."""

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`."""
        yield from steps


class StoppedError(BaseException):
    """Ends a thread's work on request, without counting as a failure of its cell.

    The text, if any, is what was saved.
    """


@dataclass
class Stop:
    """A request to end the work at the next step of its loops.

    Attributes:
        requested: whether it is made.
        holding: whether loops have begun whose result is not stored yet, so that they must be
            left to write their state.
    """

    requested: bool = False
    holding: bool = False

    def check(self) -> None:
        """Raise a `StoppedError` once the request is made."""
        if self.requested:
            raise StoppedError

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Mark work at whose end the result of its loops is stored."""
        around = self.holding
        try:
            yield
        finally:
            self.holding = around
