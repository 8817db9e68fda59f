"""Pixels of .safetensors files, read without a second copy in memory."""

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_pixels(path: Path, name: str) -> NDArray[np.uint8]:
    """Return an array of 8-bit values from a .safetensors file.

    safetensors maps the whole file and copies the array out of it, which takes twice its memory.

    Args:
        path: a file whose header safetensors has accepted.
        name: name of the array.

    Raises:
        ValueError: the array has another type, or the file has ended early.
        KeyError: there is no array of this name.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        if entry["dtype"] != "U8":
            raise ValueError(f"its {name} have the type {entry['dtype']}, not U8")
        file.seek(8 + length + entry["data_offsets"][0])
        pixels = np.fromfile(file, np.uint8, math.prod(entry["shape"]))
    return pixels.reshape(entry["shape"])
