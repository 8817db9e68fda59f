"""The way back: an export as an array in the order of the data set."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError
from unlearnable_bench.exporting.card import CARD, check_pixels, read_card
from unlearnable_bench.exporting.formats import FORMATS

# A plan reads a poison several times, and PNG is slow: 0.1 ms an image. What is held matches the
# hash of its card, by which it is found.
_HELD_BYTES = 1 << 30
_held: dict[tuple[Path, str], tuple[NDArray[Any], NDArray[np.int64], str]] = {}


def is_export(path: Path) -> bool:
    """Return whether a path is a folder with the card of an export."""
    return (path / CARD).is_file()


def fingerprint(folder: Path) -> str:
    """Return a hash of what an export holds, the same for each format."""
    card = read_card(folder)
    return hashlib.sha256(f"{card['what']} {card['sha256'][card['what']]}".encode()).hexdigest()


def check_export(folder: Path) -> None:
    """Refuse an export whose files do not match its card, also if it was read before.

    Raises:
        UserError: the export is damaged, changed or incomplete.
    """
    _held.pop((folder.absolute(), fingerprint(folder)), None)
    read_export(folder)


def read_export(folder: Path) -> tuple[NDArray[Any], NDArray[np.int64], str]:
    """Return the array of an export, the labels, and the SHA-256 of the poisoned images.

    Rows are placed by their index, whatever the order of the files, and the pixels are compared
    with the card.

    Raises:
        UserError: the export is damaged, changed or incomplete.
    """
    card = read_card(folder)
    stamp = folder.absolute(), fingerprint(folder)
    if stamp in _held:
        return _held[stamp]
    try:
        array, labels = FORMATS[card["to"]].read(folder, card["what"], card["images"])
    except UserError:
        raise
    except Exception as error:  # numpy, zipfile, safetensors and tarfile raise their own
        reason = str(error).split("\n")[0]
        raise UserError(f"{folder} cannot be read ({reason}); export it again") from error
    check_pixels(folder, card, array)
    found = array, labels, str(card["sha256"]["images"])
    _held.clear()
    if array.nbytes <= _HELD_BYTES:
        array.flags.writeable = False
        _held[stamp] = found
    return found
