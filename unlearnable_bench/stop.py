"""The request to end a run, which its loops obey. Needs no torch, so that signals come first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


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
        beat: called at each check, which shows that the work goes on.
    """

    requested: bool = False
    holding: bool = False
    beat: Callable[[], None] = lambda: None

    def check(self) -> None:
        """Raise a `StoppedError` once the request is made."""
        self.beat()
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
