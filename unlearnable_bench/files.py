"""Atomic writes, which survive the death of the process, and locks, which end with it."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PAUSE = 0.2  # seconds between two attempts to take a lock


@contextmanager
def replacing(path: Path, *, single_writer: bool = False) -> Iterator[Path]:
    """Yield a temporary path whose file atomically replaces `path` at the end.

    The temporary file has a folder of its own, because safetensors first writes to a third
    name: all that a killed process leaves behind is in that folder.

    Args:
        path: the file to replace.
        single_writer: no other process writes the file at the same time, so leftovers of a
            killed process are removed.
    """
    folder = path.with_name(f".{path.name}{'' if single_writer else f'.{os.getpid()}'}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        temporary = folder / path.name
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors makes files readable by their owner only
        temporary.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, flushed to disk before it gets its name."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def locked(path: Path, *, wait: bool, tick: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold a lock, which the system releases if this process dies.

    Args:
        path: the lock's empty file, which is never removed.
        wait: wait until another process releases the lock; otherwise give up immediately.
        tick: called five times a second while waiting; it ends the wait by raising.

    Yields:
        Whether the lock was taken.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        # Polled, because a thread blocked in the system call would not see Ctrl-C.
        while not (held := _taken(file)) and wait:
            tick()
            time.sleep(_PAUSE)
        yield held


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
