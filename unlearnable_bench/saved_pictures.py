"""Folders and zips of pictures, the form in which several poisons are published."""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Pixels

_ENDINGS = (".png", ".webp", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")


def is_pictures(path: Path) -> bool:
    """Return whether a path is a folder, or a zip that holds pictures and no arrays."""
    if path.is_dir():
        return bool(_names(path))
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # a damaged directory, which is named when the file is read as an array
        return False
    arrays = any(name.endswith((".npy", "/data.pkl")) for name in names)
    return not arrays and any(map(_is_picture, names))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or that of the names and contents of a folder's pictures."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = _names(path)
    states = [(path / name).stat() for name in names]
    stamps = tuple((one.st_size, one.st_mtime_ns) for one in states)
    return _folder_digest(path, tuple(names), stamps)


@lru_cache(maxsize=4)  # asked for each cell of a plan
def _folder_digest(path: Path, names: tuple[str, ...], stamps: tuple[tuple[int, int], ...]) -> str:
    sha = hashlib.sha256()
    for name, (size, _) in zip(names, stamps, strict=True):
        sha.update(os.fsencode(f"{name}\0{size}\0"))
        sha.update((path / name).read_bytes())
    return sha.hexdigest()


def read_pictures(path: Path) -> tuple[Pixels, tuple[str, ...]]:
    """Return the pictures of a folder or zip, uint8 [R, H, W, 3], and their names in it.

    Hidden files and files of other endings are not read.

    Raises:
        UserError: a picture that cannot be read, or pictures of different sizes or depths.
    """
    array: Pixels | None = None
    names: list[str] = []
    for k, (name, stream, count) in enumerate(_streams(path)):
        pixels = _decoded(f"{path}: {name}", stream)
        if array is None:
            array = np.empty((count, *pixels.shape), np.uint8)
        if pixels.shape != array.shape[1:]:
            (height, width), (rows, columns) = pixels.shape[:2], array.shape[1:3]
            raise UserError(
                f"{path}: {name} is {width}x{height}, {names[0]} is {columns}x{rows}; save all "
                "pictures in one size, that of the training images"
            )
        array[k] = pixels
        names.append(name)
    if array is None:
        raise UserError(f"{path} has no pictures; read are {' '.join(_ENDINGS)}")
    return array, tuple(names)


def numbers(path: Path, names: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the number in each picture's name: 12 for `12.png` and `data/img_0012.png`.

    Raises:
        UserError: a name without a number or with several, or a number that two pictures have.
    """
    found: dict[int, str] = {}
    for name in names:
        digits = re.findall(r"[0-9]+", PurePosixPath(name).stem)
        if len(digits) != 1 or len(digits[0]) > 18:
            raise UserError(
                f"{path}: {name} has {'no' if not digits else 'not one'} number in its name, and "
                "the names are not those of the data set's files; name the pictures by the index "
                "of their training image, from 0: 0.png"
            )
        number = int(digits[0])
        if number in found:
            raise UserError(
                f"{path}: {found[number]} and {name} have the same number; remove one of them"
            )
        found[number] = name
    return np.array([*found], np.int64)


def _names(path: Path) -> list[str]:
    """Return the pictures below a folder, by their relative names, sorted."""
    found = []
    for where, folders, files in os.walk(path):
        folders[:] = sorted(folders)
        inner = Path(where).relative_to(path)
        found += [(inner / file).as_posix() for file in files]
    return sorted(filter(_is_picture, found))


def _is_picture(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and name.lower().endswith(_ENDINGS)


def _streams(path: Path) -> Iterator[tuple[str, io.BytesIO, int]]:
    """Yield name and content of each picture, and how many there are."""
    if path.is_dir():
        names = _names(path)
        for name in names:
            yield name, io.BytesIO((path / name).read_bytes()), len(names)
        return
    with zipfile.ZipFile(path) as archive:
        names = sorted(filter(_is_picture, archive.namelist()))
        for name in names:
            try:
                content = archive.read(name)
            except Exception as error:  # encrypted, damaged, or of an unknown compression
                raise UserError(
                    f"{path}: {name} cannot be unpacked ({error}); unpack the zip yourself, and "
                    "give the folder"
                ) from error
            yield name, io.BytesIO(content), len(names)


def _decoded(what: str, stream: io.BytesIO) -> Pixels:
    try:
        with Image.open(stream) as image:
            opaque = image.mode == "RGBA" and np.asarray(image.getchannel("A")).min() == 255
            mode = image.mode
            pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises exceptions of many kinds on damaged files
        raise UserError(f"{what} is not a readable picture; repair or remove it") from error
    if mode not in ("RGB", "L") and not opaque:
        raise UserError(f"{what} has the mode {mode}; save it as an RGB PNG with 8 bits per value")
    return pixels
