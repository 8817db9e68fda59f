"""Tracebacks of the command: on the screen with `--debug`, otherwise in a file."""

import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_log_path

from unlearnable_bench.errors import UserError, one_line

_shown: list[bool] = []


class RepeatedError(UserError):
    """An error that several cells share, whose traceback is a note.

    Attributes:
        traced: whether the traceback matters.
    """

    def __init__(self, message: str, *, traced: bool) -> None:
        super().__init__(message)
        self.traced = traced


@dataclass(frozen=True)
class FailedWork:
    """The error that ended work on which several cells depend.

    Attributes:
        reason: the error in one line.
        trace: the whole traceback.
        traced: whether the traceback matters (`has_trace`).
    """

    reason: str
    trace: str
    traced: bool

    def again(self) -> RepeatedError:
        """Return the error for another of these cells, with the original traceback."""
        error = RepeatedError(self.reason, traced=self.traced)
        error.add_note(self.trace)
        return error


def show(wanted: bool) -> None:
    """Print the tracebacks of this command, if wanted."""
    _shown[:] = [True] if wanted else _shown


def hide() -> None:
    """Begin a command, in which tracebacks are not printed unless it has `--debug`."""
    _shown.clear()


def is_shown() -> bool:
    """Return whether tracebacks are printed."""
    return bool(_shown)


def has_trace(error: BaseException) -> bool:
    """Return whether the lines of code that led to an error matter to its reader.

    They do if it is an exception of Python's, or a `UserError` that quotes one of a plugin.
    """
    if isinstance(error, RepeatedError):
        return error.traced
    if not isinstance(error, UserError):
        return True
    cause = error.__cause__
    if isinstance(cause, UserError):
        return has_trace(cause)
    return cause is not None and one_line(cause) in str(error)


def trace_of(error: BaseException) -> str:
    """Return the whole traceback of an error as text, with the errors that caused it."""
    return "".join(traceback.format_exception(error))


def told(error: BaseException) -> str:
    """Print or store the traceback of an error, if it has one that matters.

    Returns:
        Where it is, as the end of the error's line; empty if it was printed or does not matter.
    """
    if is_shown():
        sys.stderr.write(trace_of(error))
    elif has_trace(error):
        path = _log_file()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(trace_of(error), encoding="utf-8", errors="replace")
        except OSError:  # e.g. no home, or a full disk
            return "; add --debug for the traceback"
        return f"; traceback: {path}"
    return ""


def _log_file() -> Path:
    """Return the file of the last traceback: in $UBENCH_HOME, or the user's folder of logs."""
    home = os.environ.get("UBENCH_HOME")
    return (Path(home) if home else user_log_path("ubench")) / "last-error.txt"
