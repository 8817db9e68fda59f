"""Progress of long loops."""

from collections.abc import Iterable, Iterator
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
