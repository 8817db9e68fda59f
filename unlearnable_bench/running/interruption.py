"""Signals that end the command or a run; a run writes the state of its loops first."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from unlearnable_bench.stop import Stop, StoppedError

_LOG = logging.getLogger(__name__)

# Ctrl-C; `kill` and batch systems; a closed terminal; warnings before a time limit (Slurm's
# --signal, Grid Engine's -notify, a limit of CPU time). All end a process by default.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_AGAIN = "run the same command again to resume"


class Interrupted(KeyboardInterrupt):
    """A signal ended the work.

    Attributes:
        code: exit code of the command, 128 and the number of the signal.
        saved: how many cells are finished, and what is saved.
    """

    def __init__(self, number: int, saved: Sequence[str] = ()) -> None:
        self.code, self.saved = 128 + number, saved
        name = signal.Signals(number).name
        super().__init__("; ".join((f"interrupted by {name}", *filter(None, saved), _AGAIN)))


_last: list[Interrupted] = []


def last() -> Interrupted:
    """Return the last interruption, which other exceptions may have replaced; or one of Ctrl-C."""
    return _last[-1] if _last else Interrupted(signal.SIGINT)


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Interrupted` at the first signal, and end the process at the second."""
    _last.clear()
    with _handled(_first):
        yield


@contextmanager
def postponed(stop: Stop) -> Iterator[list[str]]:
    """Turn a signal into a request to stop, and raise it once the loops have written their state.

    A signal outside loops stops the work at once, because there is no state to write. A second
    signal has its usual effect: it ends the command, and is a `KeyboardInterrupt` in a notebook.
    Only in the main thread, and only signals for which the program has no handler of its own.

    Args:
        stop: receives the request.

    Yields:
        A list for what is saved, part of the message.

    Raises:
        Interrupted: a signal came, and was that of Ctrl-C or of the command.
    """
    saved: list[str] = []
    received: list[int] = []
    inside = True

    def handle(number: int, _frame: Any) -> None:
        if received:
            _end_now(number, before)
        received.append(number)
        stop.requested = True
        if inside and not stop.holding:
            raise StoppedError
        with suppress(OSError):
            if os.isatty(2):
                os.write(2, b"\nubench: stopping after this step; a second signal ends at once\n")

    with _handled(handle) as before:
        try:
            yield saved
        except StoppedError:
            if not received:
                raise
        finally:
            inside = False
    if received:
        _deliver(received[0], before, saved)


@contextmanager
def _handled(handler: Any) -> Iterator[dict[int, Any]]:
    """Install a handler of all signals; yield the handlers that it replaces."""
    usual = (signal.SIG_DFL, signal.default_int_handler, _first)
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in usual:  # not one ignored, as by nohup
                    before[number] = signal.signal(number, handler)
        yield before
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _first(number: int, _frame: Any) -> None:
    for each in SIGNALS:
        if signal.getsignal(each) is _first:
            signal.signal(each, _exit)
    _last.append(Interrupted(number))
    raise _last[-1]


def _exit(number: int, _frame: Any) -> None:
    """End at once: no file needs care, because each is written under a temporary name."""
    with suppress(OSError):
        show = b"\x1b[?25h" if os.isatty(2) else b""  # the cursor, which progress bars hide
        os.write(2, show + b"ubench: ended at once; run the same command again to resume\n")
    os._exit(128 + number)


def _end_now(number: int, before: dict[int, Any]) -> None:
    if before[number] is _first:
        _exit(number, None)
    for each, old in before.items():
        signal.signal(each, old)
    signal.raise_signal(number)


def _deliver(number: int, before: dict[int, Any], saved: Sequence[str]) -> None:
    """Raise the signal's exception, or let the signal end a program that is not the command."""
    found = Interrupted(number, saved)
    if before[number] is signal.SIG_DFL:
        _LOG.warning("ubench: %s", found)
        signal.raise_signal(number)
    if before[number] is _first:
        for each in SIGNALS:
            if signal.getsignal(each) is _first:
                signal.signal(each, _exit)
    _last.append(found)
    raise found
