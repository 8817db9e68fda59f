"""Opening of a results folder: a marked one, one that has lost its marker, or a new one."""

import os
from collections.abc import Callable
from pathlib import Path

from unlearnable_bench.errors import UserError
from unlearnable_bench.results import marker, upkeep
from unlearnable_bench.storage.files import write_text


def open_folder(path: Path, has_record: Callable[[], bool], *, create: bool) -> None:
    """Check that a path is a results folder, or make it one.

    Args:
        path: the folder.
        has_record: returns whether the folder holds a sound record; called if it has no marker.
        create: make it if it does not exist or is empty, and clear what is left over in it.

    Raises:
        UserError: the path is not a results folder (and, with `create`, not empty).
    """
    found = marker.content(path)
    if marker.is_cut_off(found):
        _mark(path, has_record, create=create)
    elif found != marker.TEXT.encode():
        raise marker.refusal(path, found)
    if create:
        upkeep.clear(path)


def has_content(path: Path) -> bool:
    """Return whether something that is not the beginning of a results folder is at a path."""
    if not path.is_dir():
        return path.exists()
    ignored = (".DS_Store", marker.NAME)
    return any(one.suffix != ".tmp" and one.name not in ignored for one in path.iterdir())


def refusal(path: Path) -> UserError:
    """Return the error about a folder that holds something else."""
    return UserError(f"{path} is neither empty nor a results folder; choose another --out")


def _mark(path: Path, has_record: Callable[[], bool], *, create: bool) -> None:
    """Make a folder that has no marker a results folder, if it is new or was one."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, not a results folder; give another folder")
    # Its marker was lost, e.g. because it was moved while a run worked on it.
    sound = _holds_only_results(path) and has_record()
    if sound and not create:
        return
    if not create:
        raise UserError(f"{path} is not a results folder; give one made by `ubench run`")
    # Another run may have made the folder in the meantime.
    if not sound and has_content(path) and marker.is_cut_off(marker.content(path)):
        raise refusal(path)
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / marker.NAME, marker.TEXT)


def _holds_only_results(path: Path) -> bool:
    """Return whether a folder can be read and holds only what a results folder does."""
    try:
        names = {name for name in os.listdir(path) if name[0] != "."}  # noqa: PTH208
    except OSError:
        return False
    return names <= upkeep.FOLDERS | {marker.NAME}
