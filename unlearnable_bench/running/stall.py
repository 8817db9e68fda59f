"""Ends cells that hang: whose loops make no step for longer than a limit."""

import ctypes
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.planning.plan import Cell, PoisonPlan, Probe

Item = Cell | Probe | PoisonPlan


class StalledError(UserError):
    """A cell made no step of its loops for longer than the limit.

    Attributes:
        limit: the limit as text.
    """

    limit: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__(
            f"it made no step of its loops for {self.limit} and was ended; if it is only slow, "
            "raise --stall-limit"
        )


@dataclass(frozen=True)
class Stall:
    """What to do about cells that hang.

    Attributes:
        seconds: time without a step of a loop after which a cell is ended.
        limit: the same as text, for messages.
        grace: further seconds after which a cell that cannot be ended from within is lost.
        lost: called with the item, the reason and the stack of a cell that blocks this process: one
            that cannot be ended (then from another thread), or one after which the GPU computes
            nothing. It should end or replace the process.
        tick: seconds between two looks.
    """

    seconds: float
    limit: str
    lost: Callable[[Item, str, str], None] = lambda _item, _reason, _stack: None
    grace: float = 60.0
    tick: float = 1.0


@dataclass
class _Watched:
    item: Item
    thread: int
    silent: float = 0.0
    is_ended: bool = False
    is_lost: bool = False


class Watch:
    """Watches the threads that compute cells, for as long as it is entered.

    A cell that hangs in Python code is ended by an exception in its thread. One that hangs in other
    code, such as a deadlocked library, is lost.

    Time is counted in looks of a thread of this process, so that a stopped process (Ctrl-Z, a
    frozen container) does not count.

    Args:
        stall: the limit; None: nothing is watched.
    """

    def __init__(self, stall: Stall | None) -> None:
        self._stall = stall
        self._watched: dict[int, list[_Watched]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        limit = stall.limit if stall else ""
        self._error = type("StalledError", (StalledError,), {"limit": limit})
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        if self._stall:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        if self._stall and threading.current_thread() is not self._thread:
            self._thread.join()

    def beat(self) -> None:
        """Note that the work of this thread has made a step."""
        for watched in self._watched.get(threading.get_ident(), ()):
            watched.silent = 0.0

    def progress(self, inner: Progress) -> Progress:
        """Return progress whose steps are noted."""
        return _Beating(self, inner) if self._stall else inner

    def lose(self, item: Item, reason: str, stack: str) -> None:
        """Give up an item that blocks this process."""
        if self._stall:
            self._stall.lost(item, reason, stack)

    @contextmanager
    def over(self, item: Item) -> Iterator[None]:
        """Watch the work of this thread on an item."""
        if not self._stall:
            yield
            return
        thread = threading.get_ident()
        watched = _Watched(item, thread)
        with self._lock:
            self._watched.setdefault(thread, []).append(watched)
        try:
            yield
        finally:
            with self._lock:
                self._watched[thread].remove(watched)
                if watched.is_ended:  # by an exception that may not have been raised yet
                    _raise_in(thread, None)

    def _look(self) -> None:
        assert self._stall is not None
        while not self._over.wait(self._stall.tick):
            with self._lock:
                stuck = [one for found in self._watched.values() for one in found[-1:]]
                for watched in stuck:
                    watched.silent += self._stall.tick
                    late = watched.silent > self._stall.seconds
                    if late and not watched.is_ended and not _is_importing(watched.thread):
                        watched.is_ended = True
                        _raise_in(watched.thread, self._error)
            for watched in stuck:
                late = watched.silent > self._stall.seconds + self._stall.grace
                if late and not watched.is_lost:
                    watched.is_lost = True
                    reason = f"it made no step of its loops for {self._stall.limit}"
                    stack = _stack_of(watched.thread)
                    self.lose(watched.item, f"{reason} and could not be ended", stack)


class _Beating:
    def __init__(self, watch: Watch, inner: Progress) -> None:
        self._watch, self._inner = watch, inner

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`."""
        for step in self._inner.track(label, total, steps):
            self._watch.beat()
            yield step


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an exception in a thread at its next Python instruction; None takes it back."""
    found = ctypes.py_object(error) if error else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), found)


def _is_importing(thread: int) -> bool:
    """Return whether a thread imports a module, whose lock an exception could leave taken."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - documented, for debuggers
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _stack_of(thread: int) -> str:
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - documented, for debuggers
    return "".join(traceback.format_stack(frame)) if frame else ""
