"""Atomic writes, which survive the death of the process, and reads of regular files only."""

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unlearnable_bench.storage.disk import refusals_named
from unlearnable_bench.storage.locks import locked

__all__ = [
    "NotRegularError",
    "clear_leftovers",
    "locked",
    "read_bytes",
    "replacing",
    "scratch",
    "write_text",
]

# Of `scratch`; folders of others whose names only begin and end alike are never removed.
_SCRATCH = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
_YOUNG = 60.0  # seconds in which a temporary folder may not be locked yet


class NotRegularError(OSError):
    """A folder, a pipe, a device or a link to itself is in place of a file."""


@contextmanager
def scratch(parent: Path, name: str, size: int | None = None) -> Iterator[Path]:
    """Yield a new temporary folder, which is removed at the end.

    It is locked as long as its process lives: `clear_leftovers` recognises by the lock what a
    killed process left.

    Args:
        parent: existing folder.
        name: beginning of the name, after a dot.
        size: number of bytes that it is for, if known.

    Raises:
        DiskError: the disk takes no more files.
    """
    folder = parent / f".{name}.{secrets.token_hex(8)}.tmp"
    with refusals_named(parent / name, size):
        folder.mkdir()  # fails if it exists
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


@contextmanager
def replacing(
    path: Path, *, size: int | None = None, single_writer: bool = False
) -> Iterator[Path]:
    """Yield a temporary path whose file atomically replaces `path` at the end.

    The temporary file has a folder of its own, because safetensors first writes to a third
    name: all that a killed process leaves behind is in that folder. The file's own folder is made
    if it is missing, but not the folder around that: a results folder that was moved away must not
    begin again without its marker.

    Args:
        path: the file to replace.
        size: number of bytes to be written, if known.
        single_writer: no other process writes the file at the same time, so leftovers of a
            killed process are removed.

    Raises:
        DiskError: the disk takes no more files; an existing file is unchanged.
    """
    with refusals_named(path, size):
        path.parent.mkdir(exist_ok=True)
    if single_writer:
        for left in (path.with_name(f".{path.name}.tmp"), *_temporary(path.parent, path.name)):
            shutil.rmtree(left, ignore_errors=True)
    with scratch(path.parent, path.name, size) as folder:
        temporary = folder / path.name
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors makes files readable by their owner only
        temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, flushed to disk before it gets its name."""
    data = text.encode()
    with replacing(path, size=len(data)) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_bytes(path: Path | str) -> bytes:
    """Return the content of a regular file; a link to one is followed.

    Raises:
        NotRegularError: a folder, or a pipe or device, which could be read for ever.
        OSError: no file, or one that cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link to itself, a socket
            raise NotRegularError(error.errno, error.strerror, str(path)) from error
        raise
    try:
        state = os.fstat(descriptor)
        if stat.S_ISDIR(state.st_mode):
            raise NotRegularError(errno.EISDIR, "it is a folder", str(path))
        if not stat.S_ISREG(state.st_mode):
            raise NotRegularError(errno.EINVAL, "it is not a regular file", str(path))
        content = os.read(descriptor, state.st_size + 1)
        if len(content) != state.st_size:  # larger than a single read, or growing
            parts = [content]
            while part := os.read(descriptor, 1 << 20):
                parts.append(part)
            content = b"".join(parts)
        return content
    finally:
        os.close(descriptor)


def clear_leftovers(folder: Path) -> None:
    """Remove the temporary folders that killed processes left in a folder.

    Only those of `scratch` whose lock is free, and which are older than a minute.
    """
    for left in _temporary(folder, ""):
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                state = os.fstat(descriptor)
                if state.st_uid == os.getuid() and time.time() - state.st_mtime > _YOUNG:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left)
            finally:
                os.close(descriptor)


def _temporary(folder: Path, name: str) -> list[Path]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a tenth of the time
    except OSError:
        return []
    start = f".{name}." if name else "."
    return [folder / one for one in names if one.startswith(start) and _SCRATCH.fullmatch(one)]
