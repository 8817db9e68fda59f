"""A results folder that disappears while a run works on it, such as one on a network file system.

It is waited for. What was computed and could not be written resumes from its last checkpoint.
"""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unlearnable_bench.errors import UserError
from unlearnable_bench.results import marker

_LOG = logging.getLogger(__name__)
_PAUSE = 0.2  # seconds between two looks
_USUAL = 300.0  # seconds
_VARIABLE = "UBENCH_FOLDER_WAIT"
# No such file, and a file of a server that has been away.
_GONE = {errno.ENOENT, errno.ESTALE}
_awaited: set[Path] = set()


class FolderGoneError(UserError):
    """The results folder was moved or removed while a run worked on it."""


class FolderReturnedError(Exception):
    """The results folder disappeared during work and is back, so the work can begin again."""


def is_present(folder: Path) -> bool:
    """Return whether a results folder is there; not if the system refuses to say so."""
    return os.path.exists(folder / marker.NAME)  # noqa: PTH110 - errors are a no


def wait_for(folder: Path, tick: Callable[[], None] = lambda: None) -> None:
    """Wait until a results folder that has disappeared is there again.

    Args:
        folder: the results folder.
        tick: called five times a second; it ends the wait by raising.

    Raises:
        FolderGoneError: it is not back after 5 minutes, or the seconds that the environment
            variable `UBENCH_FOLDER_WAIT` gives.
        UserError: that variable is not a number.
    """
    if is_present(folder):
        return
    limit = _limit()
    began = time.monotonic()
    first = folder not in _awaited  # of several threads
    if first and limit:
        _awaited.add(folder)
        _LOG.warning(
            "ubench: the results folder %s has disappeared; waiting up to %g s for it",
            folder,
            limit,
        )
    try:
        while not is_present(folder):
            tick()
            if time.monotonic() - began >= limit:
                raise FolderGoneError(
                    f"the results folder {folder} was moved or removed while it was in use; run "
                    "the command again with the new place as --out"
                )
            time.sleep(_PAUSE)
    finally:
        if first:
            _awaited.discard(folder)
    if first:
        _LOG.warning("ubench: the results folder %s is back", folder)


@contextmanager
def outlasting(folder: Path, tick: Callable[[], None]) -> Iterator[None]:
    """Wait for the folder if work within the block fails because it has disappeared.

    Args:
        folder: the results folder.
        tick: as for `wait_for`.

    Raises:
        FolderReturnedError: the folder is there again.
        FolderGoneError: it is not.
    """
    try:
        yield
    except (FolderGoneError, FolderReturnedError):
        raise
    except Exception as error:
        if is_present(folder) and not _names_its_absence(error, folder):
            raise
        wait_for(folder, tick)
        raise FolderReturnedError(str(error)) from error


def _names_its_absence(error: BaseException, folder: Path) -> bool:
    """Return whether an error is about a missing file of a folder, which may be back already."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in _GONE and found.filename:
            path = Path(os.fsdecode(found.filename)).absolute()
            return path.is_relative_to(folder.absolute())
        found = found.__cause__
    return False


def _limit() -> float:
    text = os.environ.get(_VARIABLE, "")
    try:
        limit = float(text or _USUAL)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise UserError(
            f"{_VARIABLE}={text}: give the seconds to wait for a results folder that has "
            "disappeared, 0 or more"
        )
    return limit
