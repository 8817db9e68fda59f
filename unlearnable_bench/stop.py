"""The request to end a run, which its loops obey. Needs no torch, so that signals come first."""

from collections.abc import Iterator
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
