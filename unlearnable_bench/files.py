"""Files that are whole or not there, whenever the process dies, and locks that die with it."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PAUSE = 0.2  # seconds between two looks at a lock


@contextmanager
def replacing(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yield a name in a folder of its own; what stands there then takes the place of `path`.

    A folder, since safetensors writes a file of yet another name first: whatever a killed
    process left half done is in it.

    Args:
        path: the file.
        alone: nobody else writes it at the same time: what a killed process left is removed.
    """
    folder = path.with_name(f".{path.name}{'' if alone else f'.{os.getpid()}'}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        temporary = folder / path.name
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors would let nobody but the owner read it
        temporary.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, on disk before it is there."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def locked(path: Path, *, wait: bool, tick: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold a lock; the system frees it if this process dies.

    Args:
        path: of the lock's empty file, which stays.
        wait: until another process is done; otherwise give up at once.
        tick: called now and then while waiting; ends it by raising.

    Yields:
        Whether the lock is held.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        # Asked again and again: a thread that waits in the system hears of no Ctrl-C.
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
