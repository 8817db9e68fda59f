"""What long work tells about itself."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Shows how far a loop has come."""

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`, numbers below `total`, showing them."""
        ...


class Silent:
    """Shows nothing; what a notebook or a test gets."""

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`."""
        yield from steps


class StoppedError(BaseException):
    """Ends a thread's work after Ctrl-C; not an error of its cell."""


@dataclass
class Stoppable:
    """Progress that ends every loop, and whoever asks, once `stop` is set."""

    inner: Progress
    stop: bool = False

    def check(self) -> None:
        """Raise a `StoppedError` once `stop` is set."""
        if self.stop:
            raise StoppedError

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`."""
        for step in self.inner.track(label, total, steps):
            self.check()
            yield step
