"""A disk that takes no more files: named in one line, and the end of a run."""

import errno
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unlearnable_bench.errors import UserError

_AGAIN = "and run the same command again"
_REASONS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "your disk quota is used up",
    errno.EFBIG: "files may not be so large",
    errno.EROFS: "the disk is read-only",
}
_STEPS = {
    errno.EDQUOT: f"remove files {_AGAIN}",
    errno.EFBIG: f"raise the limit (ulimit -f) {_AGAIN}",
    errno.EROFS: "choose a folder on another disk",
}
# How safetensors, which is written in Rust, quotes an error of the system.
_NUMBER = re.compile(r"\(os error (\d+)\)|\bcode: (\d+)")


class DiskError(UserError):
    """The disk takes no more files, so that further work would be lost as well."""


_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "bytes"))


@contextmanager
def refusals_named(path: Path, size: int | None = None) -> Iterator[None]:
    """Turn errors of a full disk within the block into a `DiskError`.

    Args:
        path: the file to be written, for the message.
        size: number of its bytes; None: unknown.

    Raises:
        DiskError: the disk is full or read-only, or a quota or limit is reached.
    """
    try:
        yield
    except DiskError:
        raise
    except Exception as error:  # safetensors raises its own
        found = disk_error(error, path, size)
        if found is None:
            raise
        raise found from error


def disk_error(
    error: BaseException, path: Path | None = None, size: int | None = None
) -> DiskError | None:
    """Return the `DiskError` for an error of the system, or None if it has another reason.

    Args:
        error: of Python or of safetensors.
        path: the file to be written, if known.
        size: number of its bytes, if known.
    """
    number = _number(error)
    if number not in _REASONS:
        return None
    step = _STEPS.get(number) or _room(path or Path.cwd() / "file", size)
    needed = f" ({bytes_text(size)})" if size else ""
    return DiskError(f"{path or 'a file'}{needed} cannot be written: {_REASONS[number]}; {step}")


def _number(error: BaseException) -> int:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if type(error).__name__ != "SafetensorError":
        return 0
    found = _NUMBER.search(str(error))
    return int(found[1] or found[2]) if found else 0


def _room(path: Path, size: int | None) -> str:
    """Return how much space to make for a file."""
    folder = next(one for one in path.absolute().parents if one.exists())
    free = shutil.disk_usage(folder).free
    if size is None:
        return f"{bytes_text(free)} are free; make room {_AGAIN}"
    if free > size:  # a full table of files, or others' files are gone again
        return f"remove files (df -i {folder} counts them) {_AGAIN}"
    return f"{bytes_text(free)} are free; free at least {bytes_text(size - free)} more {_AGAIN}"


def bytes_text(size: int) -> str:
    """Return a number of bytes with a unit, rounded up to one decimal place."""
    unit, name = next((u, n) for u, n in _UNITS if size >= u or u == 1)
    return f"{math.ceil(10 * size / unit) / 10:g} {name}"
