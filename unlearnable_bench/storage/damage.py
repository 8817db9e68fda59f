"""Files that fail their checks: set aside by runs, left out by reports, and named in one line."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from unlearnable_bench.errors import UserError
from unlearnable_bench.storage.files import NotRegularError

_LOG = logging.getLogger(__name__)
_lock = threading.Lock()
_collectors: list[list[str]] = []

FOLDER = "damaged"
"""Name of the folder, next to a damaged file, that it is moved to."""


class DamagedError(UserError):
    """A stored file that fails its checks.

    Attributes:
        path: the file.
        reason: why, in a few words.
    """

    def __init__(self, path: Path, reason: object, step: str = "") -> None:
        self.path, self.reason = path, " ".join(str(reason).split("\n")[0].split())
        step = step or "move it away and run the command again"
        super().__init__(f"{path} is damaged ({self.reason}); {step}")


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the error about a file that cannot be read: damaged, if it is not a file at all."""
    reason = error.strerror or error
    if isinstance(error, NotRegularError):
        return DamagedError(path, reason)
    return UserError(f"{path} cannot be read ({reason}); check its owner and permissions")


def set_aside(path: Path, reason: object, step: str = "it is made again") -> None:
    """Move a damaged file or folder into the folder `damaged` next to it, and note it.

    Args:
        path: the file or folder.
        reason: why it is damaged.
        step: what happens next, for the line.

    Raises:
        UserError: it cannot be moved.
    """
    damaged = DamagedError(path, reason)
    target = path.parent / FOLDER / path.name
    try:
        target.parent.mkdir(exist_ok=True)
        for number in count(1):
            if not target.exists():
                break
            target = target.with_name(f"{path.name}.{number}")
        path.rename(target)
    except FileNotFoundError:
        return  # another process has moved it
    except OSError as error:
        why = f"and cannot be moved ({error.strerror or error}); check its owner and permissions"
        raise UserError(f"{path} is damaged ({damaged.reason}) {why}") from error
    note(f"{path} is damaged ({damaged.reason}); moved to {target.parent}, {step}")


def note(line: str) -> None:
    """Collect a line, or log it as a warning if nobody collects."""
    with _lock:
        for lines in _collectors:
            if line not in lines:
                lines.append(line)
        collected = bool(_collectors)
    if not collected:
        _LOG.warning("ubench: %s", line)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Yield a list that receives every line noted meanwhile; a line that is repeated, once."""
    lines: list[str] = []
    with _lock:
        _collectors.append(lines)
    try:
        yield lines
    finally:
        with _lock:
            _collectors[:] = [one for one in _collectors if one is not lines]
