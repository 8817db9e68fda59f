"""The file that marks a folder as a results folder."""

import json
from pathlib import Path

from unlearnable_bench.errors import UserError
from unlearnable_bench.storage.damage import unreadable
from unlearnable_bench.storage.files import read_bytes

NAME = "ubench.json"
# The format of the folder, independent of that of its records (`records.FORMAT`).
TEXT = json.dumps({"kind": "unlearnable-bench results", "format": 1}) + "\n"


def content(folder: Path) -> bytes:
    """Return the content of a folder's marker, or nothing if there is none.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / NAME
    try:
        return read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise unreadable(path, error) from error


def is_cut_off(found: bytes) -> bool:
    """Return whether a marker is missing, empty or only the beginning of ours."""
    text = TEXT.encode()
    return found != text and text.startswith(found)


def refusal(folder: Path, found: bytes) -> UserError:
    """Return the error about a marker that is not ours."""
    path = folder / NAME
    if found.startswith(b'{"kind": "unlearnable-bench'):
        return UserError(f"{path} is from another version of ubench; give another folder")
    return UserError(
        f"{path} is not the marker of a results folder; if the folder is one, remove this file: "
        "its records tell it"
    )


def is_marked(folder: Path) -> bool:
    """Return whether a folder has the marker of a results folder, of whatever version."""
    return not is_cut_off(content(folder))
