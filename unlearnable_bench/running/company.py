"""Counts the cells that train on a device at the same time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(eq=False)
class _Stay:
    most: int = 1


class Company:
    """The cells that train on a device at the same time.

    Examples:
        >>> from unlearnable_bench.running.company import Company
        >>> company = Company()
        >>> with company.joined() as first, company.joined() as second:
        ...     pass
        >>> with company.joined() as third:
        ...     first.most, second.most, third.most
        (2, 2, 1)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._present: list[_Stay] = []

    @contextmanager
    def joined(self) -> Iterator[_Stay]:
        """Count a cell; `most` of what is yielded is the most that were there with it."""
        mine = _Stay()
        with self._lock:
            self._present.append(mine)
            for stay in self._present:
                stay.most = max(stay.most, len(self._present))
        try:
            yield mine
        finally:
            with self._lock:
                self._present.remove(mine)
