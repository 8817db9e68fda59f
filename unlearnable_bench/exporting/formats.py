"""The formats by name: how each is written, read back, and how large it gets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.exporting import arrays, folder, parquet, shards
from unlearnable_bench.exporting.content import PoisonedSet, What
from unlearnable_bench.harness.progress import Progress


@dataclass(frozen=True)
class Format:
    """A format of exports.

    Attributes:
        holds: what the files are, for the card.
        write: writes a poisoned set, or its noise, into an empty folder, and shows the progress.
        read: returns the array and the labels of an export of so many images, by index.
        size: bound on the bytes of an export.
        takes_noise: whether it can hold noise, which has a sign.
    """

    holds: str
    write: Callable[[PoisonedSet, What, Path, Progress], None]
    read: Callable[[Path, What, int], tuple[NDArray[Any], NDArray[np.int64]]]
    size: Callable[[PoisonedSet, What], int]
    takes_noise: bool = False


FORMATS = {
    "folder": Format(
        "train/CLASS/INDEX.png; index.csv names index, label and class of each file",
        folder.write,
        folder.read,
        folder.size,
    ),
    "npz": Format(
        "one .npz with images or noise, labels, index, protected, class_names, sha256",
        arrays.write_npz,
        arrays.read_npz,
        arrays.size,
        takes_noise=True,
    ),
    "safetensors": Format(
        "one .safetensors with images or noise, labels, index, protected",
        arrays.write_safetensors,
        arrays.read_safetensors,
        arrays.size,
        takes_noise=True,
    ),
    "hf": Format(
        "data/SPLIT-*.parquet with image (PNG), label, index, protected",
        parquet.write,
        parquet.read,
        parquet.size,
    ),
    "webdataset": Format(
        "SPLIT-*.tar with INDEX.png, INDEX.cls, INDEX.json (index, label, class, protected)",
        shards.write,
        shards.read,
        shards.size,
    ),
}


def format_of(name: str, what: What) -> Format:
    """Return a format that can hold images, or noise.

    Raises:
        UserError: an unknown format, or noise in a format of pictures.
    """
    if name not in FORMATS:
        raise unknown("format", name, list(FORMATS))
    if what == "noise" and not FORMATS[name].takes_noise:
        fit = " or ".join(f"--to {one}" for one, form in FORMATS.items() if form.takes_noise)
        raise UserError(f"--to {name} holds pictures, and noise has a sign; write it with {fit}")
    return FORMATS[name]
