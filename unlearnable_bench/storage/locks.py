"""Locks on files, which end with their process, and soft locks where the system has no others."""

import errno
import fcntl
import getpass
import itertools
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import SoftFileLock, Timeout

from unlearnable_bench.errors import UserError
from unlearnable_bench.storage.disk import refusals_named

_LOG = logging.getLogger(__name__)
_PAUSE = 0.2  # seconds between two attempts to take a lock; the first ones come earlier
_PATIENCE = 10  # attempts before the owner is named
_NONE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}
_LARGEST = 4000  # bytes of the text about the owner
_NAME = 200  # characters of each name in it
_BEGINNING = b'{"process": '
_EMPTY = 30.0  # seconds after which a soft lock without a record is no longer being written
_NOBODY = 2**31 - 1  # above the largest process ID of any system
_warned: set[Path] = set()
_held_soft: set[SoftFileLock] = set()
_unreleased: set[Path] = set()


@contextmanager
def locked(
    path: Path, *, wait: bool, tick: Callable[[], None] = lambda: None, what: str = ""
) -> Iterator[bool]:
    """Hold a lock, which the system releases if this process dies.

    It is an flock. On a file system without flock, or if the environment variable `UBENCH_LOCKS` is
    `soft`, a soft lock of the package filelock is used: a file next to `path`, whose existence is
    the lock. One warning for each folder says so.

    Args:
        path: the lock's file, which is never removed. A link in its place is not followed.
        wait: wait until another process releases the lock; otherwise give up immediately.
        tick: called at least five times a second while waiting; it ends the wait by raising.
        what: name of what the lock is for, for the line about a wait.

    Yields:
        Whether the lock was taken.

    Raises:
        UserError: the file cannot be opened, or is not a regular file.
        DiskError: the disk takes no more files.
    """
    try:
        with refusals_named(path):
            path.parent.mkdir(exist_ok=True)
            descriptor = _opened(path)
    except OSError as error:
        kind = {errno.ELOOP: "is a symbolic link", errno.ENXIO: "is not a regular file"}
        if error.errno in kind:
            text = f"{path} {kind[error.errno]} in place of a lock; remove it"
        else:
            text = f"{path} cannot be locked ({error.strerror}); check its owner and permissions"
        raise UserError(text) from error
    soft: SoftFileLock | None = None
    _clear_unreleased()
    try:
        # Polled, because a thread blocked in the system call would not see Ctrl-C.
        for attempt in itertools.count(1):
            held, soft = _taken(descriptor, path, soft)
            if held or not wait:
                break
            if attempt == _PATIENCE:
                _LOG.warning("ubench: waiting for %s%s", what or path.name, _owner(descriptor))
            tick()
            time.sleep(min(_PAUSE, 0.01 * 2 ** min(attempt, 9)))
        if held:
            _sign(descriptor, what)
        yield held
    finally:
        if soft is not None:
            _release(soft)
        os.close(descriptor)


def _opened(path: Path) -> int:
    """Return a descriptor of the lock's file, made if it is missing and never emptied."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user's, which can still be locked
        descriptor = os.open(path, flags | os.O_RDONLY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), str(path))
    return descriptor


def _taken(
    descriptor: int, path: Path, soft: SoftFileLock | None
) -> tuple[bool, SoftFileLock | None]:
    """Try to take the lock; return whether it was, and the soft lock if there is one."""
    if soft is None and os.environ.get("UBENCH_LOCKS") != "soft":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False, None
        except OSError as error:
            if error.errno not in _NONE:
                raise
        else:
            return True, None
    if soft is None and path.parent not in _warned:
        _warned.add(path.parent)
        _LOG.warning(
            "ubench: %s has soft locks (filelock), not flock; after a crash of the machine, remove "
            "its *.soft files",
            path.parent,
        )
    soft = soft or SoftFileLock(path.with_name(f"{path.name}.soft"), thread_local=False)
    try:
        try:
            soft.acquire(timeout=0)
        except Timeout:
            if not _given_up(Path(soft.lock_file)):
                raise
            soft.acquire(timeout=0)
    except Timeout:
        return False, soft
    _held_soft.add(soft)
    return True, soft


def _given_up(marker: Path) -> bool:
    """Let a soft lock without a record end, of a process that was killed before it wrote one.

    filelock keeps it for ever, since its versions before 3.24 wrote none. With the record of a
    process that cannot exist, it takes the lock over in its own, safe way.
    """
    with suppress(OSError):
        descriptor = os.open(marker, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if found.st_size == 0 and time.time() - found.st_mtime > _EMPTY:
                os.pwrite(descriptor, f"{_NOBODY}\n{socket.gethostname()}\n".encode(), 0)
                return True
        finally:
            os.close(descriptor)
    return False


def _release(soft: SoftFileLock) -> None:
    """Release a soft lock, now or, if its folder has disappeared, when the next lock is taken."""
    path = Path(soft.lock_file)
    if soft in _held_soft and not path.parent.exists():
        _unreleased.add(path)
    _held_soft.discard(soft)
    soft.release()


def _clear_unreleased() -> None:
    """Remove soft locks whose folder has disappeared at their release, and is back."""
    for path in [*_unreleased]:
        if path.parent.exists():
            path.unlink(missing_ok=True)
            _unreleased.discard(path)


def release_soft() -> None:
    """Release the soft locks of this process, which is about to be replaced."""
    for soft in list(_held_soft):
        soft.release(force=True)


def holder(path: Path) -> dict[str, Any] | None:
    """Return what a lock's file says about who holds it; None if nobody does.

    Its fields are `process`, `host`, `user`, `since` (UTC, ISO 8601), `what`, and `job` and `gpus`
    if the environment of the process named them. Locks of other machines are seen if the file
    system shares them.

    Args:
        path: the lock's file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not path.with_name(f"{path.name}.soft").exists():
            # Shared, so that several may look at once; it is released at once.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
        about = json.loads(os.pread(descriptor, _LARGEST, 0))
    except (OSError, ValueError):
        return {}
    finally:
        os.close(descriptor)
    return about if isinstance(about, dict) else {}


def _sign(descriptor: int, what: str) -> None:
    """Write who holds the lock, unless the file may be somebody's data under another name."""
    before = os.pread(descriptor, _LARGEST, 0)
    if os.fstat(descriptor).st_nlink != 1 or before[:12] not in (b"", _BEGINNING):
        return
    about = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "user": _user(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": what[:_NAME],
    }
    names = {"job": "SLURM_JOB_ID", "gpus": "CUDA_VISIBLE_DEVICES"}
    found = ((field, os.environ.get(name, "")[:_NAME]) for field, name in names.items())
    about |= {field: text for field, text in found if text}
    with suppress(OSError):  # another user's lock, or a full disk
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)


def is_siblings(path: Path) -> bool:
    """Return whether a lock is held by another child of this process's parent.

    Args:
        path: the lock's file.
    """
    process = (holder(path) or {}).get("process")
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except OSError:  # on another machine, or not Linux
        return False
    return int(state.rpartition(")")[2].split()[1]) == os.getppid()


def owner(path: Path) -> str:
    """Return who took a lock last, as the end of a sentence; empty if its file does not say."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return _owner(descriptor)
    finally:
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    try:
        about = json.loads(os.pread(descriptor, _LARGEST, 0))
        who = f"process {about['process']} of {about['user']} on {about['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f", which {who} has had since {about.get('since')}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for the user
        return str(os.getuid())
