"""The time for which the process was stopped, which is no time of its work.

SIGSTOP, Ctrl-Z, a batch system that suspends a job, and a frozen container or virtual machine stop
all threads without a word, and some of them without a signal when they continue. So a thread looks
at the clock ten times a second: a longer gap in which the process has used no CPU time is a pause.
(A suspended computer stops the clock of `time.perf_counter` too, on Linux and macOS.)
"""

import threading
import time
from collections.abc import Callable

_INTERVAL = 0.1  # seconds between two looks
_SHORTEST = 3.0  # seconds; a thread may be late by less on a loaded machine
# Share of the gap. Code that keeps all other threads of Python waiting uses more; before the pause
# each core may have used `_INTERVAL`.
_IDLE = 0.1


class _Watch:
    """Looks at the clock, in a thread and whenever it is asked.

    Args:
        clock: the time in seconds.
        cpu: seconds of CPU time that the process has used.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock, self._cpu = clock, cpu
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._paused = 0.0
        self._looked = self._used = 0.0

    def paused(self) -> float:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # or a forked process
                self._looked, self._used = self._clock(), self._cpu()
                self._thread = threading.Thread(target=self._run, name="ubench pauses", daemon=True)
                self._thread.start()
        return self._look()

    def _run(self) -> None:
        while True:
            time.sleep(_INTERVAL)
            self._look()

    def _look(self) -> float:
        with self._lock:
            now, used = self._clock(), self._cpu()
            gap = now - self._looked
            if gap >= _SHORTEST and used - self._used < _IDLE * gap:
                self._paused += gap - _INTERVAL
            self._looked, self._used = now, used
            return self._paused


_WATCH = _Watch()


def paused_seconds() -> float:
    """Return the seconds for which this process was stopped since the first call.

    Pauses of under 3 s are not seen; each is known to a tenth of a second.
    """
    return _WATCH.paused()
