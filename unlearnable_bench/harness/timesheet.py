"""Where the time of a piece of work goes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Timesheet:
    """Seconds by what they went into, each counted once: what is not named is "work".

    A resumed run goes on with the sheet of the interrupted one, as of its last state kept.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._kind, self._since = "work", time.perf_counter()

    def __getitem__(self, kind: str) -> float:
        """Return the seconds so far, 0 for a kind never named."""
        return self.read().get(kind, 0.0)

    @contextmanager
    def on(self, kind: str) -> Iterator[None]:
        """Count what is done within under `kind`, and not under what is around it."""
        around = self._kind
        self._turn_to(kind)
        try:
            yield
        finally:
            self._turn_to(around)

    def read(self) -> dict[str, float]:
        """Return the seconds so far by kind."""
        self._turn_to(self._kind)
        return dict(self._seconds)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what an interrupted run has spent."""
        for kind, more in seconds.items():
            self._seconds[kind] = self._seconds.get(kind, 0.0) + more

    def _turn_to(self, kind: str) -> None:
        now = time.perf_counter()
        self.add({self._kind: now - self._since})
        self._kind, self._since = kind, now
