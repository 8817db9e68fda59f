"""Progress of long loops."""

from collections.abc import Iterable, Iterator, Mapping
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


@dataclass(frozen=True)
class Labelled:
    """Progress of loops labelled with their cell or poison.

    Attributes:
        label: name of the cell or poison.
        inner: where the progress is shown.
    """

    label: str
    inner: Progress

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`, under a longer label."""
        return self.inner.track(f"{self.label}: {label}", total, steps)


@dataclass(frozen=True)
class Renamed:
    """Progress of loops whose cell or poison is called by another name.

    Attributes:
        names: what to call it, by the name at the beginning of a label.
        inner: where the progress is shown.
    """

    names: Mapping[str, str]
    inner: Progress

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`, under a label that begins with the other name."""
        known, colon, rest = label.partition(": ")
        return self.inner.track(f"{self.names.get(known, known)}{colon}{rest}", total, steps)
