"""The time spent on each kind of work."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from unlearnable_bench.harness.pauses import paused_seconds


class Timesheet:
    """Seconds by kind of work, each second counted once; the default kind is "work".

    Time for which the process is stopped, such as by SIGSTOP, is not counted.

    A resumed run continues the timesheet of the interrupted run's last checkpoint.

    Examples:
        >>> from unlearnable_bench.harness.timesheet import Timesheet
        >>> times = Timesheet()
        >>> with times.on("evaluation"):
        ...     pass
        >>> sorted(times.read()), times["warmup"]
        (['evaluation', 'work'], 0.0)
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._kind, self._since = "work", _now()

    def __getitem__(self, kind: str) -> float:
        """Return the seconds so far, 0 for an unknown kind."""
        return self.read().get(kind, 0.0)

    @contextmanager
    def on(self, kind: str) -> Iterator[None]:
        """Count the time inside the `with` block under `kind` only."""
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
        """Add the seconds of an interrupted run, by kind."""
        for kind, more in seconds.items():
            self._seconds[kind] = self._seconds.get(kind, 0.0) + more

    def _turn_to(self, kind: str) -> None:
        now = _now()
        self.add({self._kind: now - self._since})
        self._kind, self._since = kind, now


def _now() -> float:
    """Return the time in seconds by a clock that stands still while the process is stopped."""
    paused = paused_seconds()
    return time.perf_counter() - paused
