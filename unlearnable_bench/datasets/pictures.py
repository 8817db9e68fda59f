"""Folders of image files, decoded once into arrays on disk."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from unlearnable_bench.datasets.cache import cache_folder
from unlearnable_bench.datasets.inventory import Inventory
from unlearnable_bench.datasets.notices import stderr_console
from unlearnable_bench.errors import UserError
from unlearnable_bench.file_kinds import folder_kind_of
from unlearnable_bench.images import Data, ImageSet, Pixels, ResizedCrop, Transform
from unlearnable_bench.storage.damage import DamagedError, set_aside
from unlearnable_bench.storage.files import clear_leftovers, read_bytes, scratch

# Formats that may have more than 8 bits per value, which ubench 0.1 clipped.
_WIDE = {".png", ".tif", ".tiff", ".ppm"}
_ABANDONED = 24 * 3600.0  # seconds without a write
_CHUNK = 256  # images decoded before they are written


def class_folders(inventory: Inventory, root: Path) -> list[str]:
    """Return the names of the class folders in a folder, sorted.

    Raises:
        UserError: the folder is missing or holds fewer than two class folders.
    """
    kind = folder_kind_of(root.parent)
    if kind:
        raise UserError(f"{root.parent} {kind}")
    names = inventory.classes(root)
    if len(names) < 2:
        state = f"has {len(names)} class folders" if root.is_dir() else "does not exist"
        raise UserError(f"{root} {state}; images go to {root}/WNID, two classes or more")
    return names


@dataclass(frozen=True)
class Split:
    """The files of a split, in order, and the function that reads them.

    Attributes:
        files: a file for each image.
        labels: a label for each image.
        size: height and width in pixels of the images that `read` returns.
        read: returns the image of a file, uint8 [size, size, 3].
    """

    files: list[Path]
    labels: list[int]
    size: int
    read: Callable[[Path], Pixels]


def decoded(
    name: str,
    root: Path,
    splits: tuple[Split, Split],
    class_names: tuple[str, ...],
    transform: Transform | ResizedCrop,
) -> Data:
    """Return the data of image files, from arrays that the first call writes to the cache.

    The arrays are cached under a hash of names, sizes and modification times of all files, and
    memory-mapped. Arrays that do not match their hash are set aside, and the files decoded again.

    Args:
        name: name of the data set.
        root: the folder that contains all files.
        splits: training split and test split.
        class_names: class names, by label.
        transform: the random transformation of training.

    Raises:
        UserError: an unreadable image, one of another size, or a full disk.
    """
    folder = cache_folder() / f"{name}-{_fingerprint(root, splits, class_names)}"
    _clear_leftovers(folder.parent, name)
    if folder.exists():
        try:
            return _checked(name, splits, class_names, transform, folder)
        except DamagedError as error:
            set_aside(folder, error.reason, "the images are decoded again")
    _convert(name, splits, class_names, transform, folder)
    return _load(name, splits, class_names, transform, folder, _digest(folder))


def _checked(
    name: str,
    splits: tuple[Split, Split],
    class_names: tuple[str, ...],
    transform: Transform | ResizedCrop,
    folder: Path,
) -> Data:
    """Return the cached data, whose pixels and labels are compared with their hash."""
    digest = _digest(folder)
    data = _load(name, splits, class_names, transform, folder, None)
    if data.sha256 != digest:
        raise DamagedError(folder, "its pixels do not match their SHA-256")
    return replace(data, digest=digest)


def _fingerprint(root: Path, splits: tuple[Split, Split], class_names: tuple[str, ...]) -> str:
    sha = hashlib.sha256("\n".join(class_names).encode())
    for split in splits:
        sha.update(f"\n{split.size}".encode())
        for file, label in zip(split.files, split.labels, strict=True):
            state = file.stat()
            line = f"\n{file.relative_to(root)} {label} {state.st_size} {state.st_mtime_ns}"
            # Decoded again, if the cache may hold the clipped pixels of ubench 0.1.
            again = " 2" if file.suffix.lower() in _WIDE else ""
            sha.update(os.fsencode(line + again))
    return sha.hexdigest()[:16]


def _convert(
    name: str,
    splits: tuple[Split, Split],
    class_names: tuple[str, ...],
    transform: Transform | ResizedCrop,
    folder: Path,
) -> None:
    """Write the arrays of both splits and their digest to the folder, atomically."""
    home = folder.parent
    home.mkdir(parents=True, exist_ok=True)
    needed = sum(3 * len(split.files) * split.size**2 for split in splits)
    if shutil.disk_usage(home).free < needed:
        raise UserError(
            f"{name}: {home} has no room for {needed / 1e9:.1f} GB of decoded images; "
            "set UBENCH_HOME to a folder on a larger disk"
        )
    console = stderr_console()
    console.print(f"{name}: images are decoded once, {needed / 1e9:.1f} GB in {folder}")
    with scratch(home, name, needed) as temporary:
        made = temporary / "made"
        made.mkdir()
        for split, part in zip(splits, ("train", "test"), strict=True):
            _write(split, made / f"{part}.npy", console)
        sha256 = _load(name, splits, class_names, transform, made, None).sha256
        (made / "sha256").write_text(sha256, encoding="ascii")
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise made by another process meanwhile
                raise


def _clear_leftovers(home: Path, name: str) -> None:
    """Remove what killed conversions left, also those of versions before 0.3."""
    clear_leftovers(home)
    for made in home.glob(f".{name}-*/made"):
        with suppress(OSError):  # another process removes it
            newest = max(path.stat().st_mtime for path in (made, *made.iterdir()))
            if time.time() - newest > _ABANDONED:
                shutil.rmtree(made.parent, ignore_errors=True)


def _write(split: Split, path: Path, console: Console) -> None:
    shape = (len(split.files), split.size, split.size, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    # Written as a stream, since a memory map would crash the process on a full disk.
    with path.open("wb") as file, ThreadPoolExecutor() as pool:
        np.lib.format.write_array_header_1_0(file, header)
        starts = range(0, len(split.files), _CHUNK)
        for start in track(starts, path.stem, console=console):
            for pixels in _read(split, split.files[start : start + _CHUNK], pool):
                file.write(np.ascontiguousarray(pixels).data)


def _read(split: Split, files: list[Path], pool: ThreadPoolExecutor) -> Iterator[Pixels]:
    for file, pixels in zip(files, pool.map(split.read, files), strict=True):
        height, width = pixels.shape[:2]
        if (height, width) != (split.size, split.size):
            raise UserError(
                f"{file} is {width}x{height}, not {split.size}x{split.size}; resize or remove it"
            )
        yield pixels


def _load(
    name: str,
    splits: tuple[Split, Split],
    class_names: tuple[str, ...],
    transform: Transform | ResizedCrop,
    folder: Path,
    digest: str | None,
) -> Data:
    parts: list[ImageSet] = []
    for split, part in zip(splits, ("train", "test"), strict=True):
        path, shape = folder / f"{part}.npy", (len(split.files), split.size, split.size, 3)
        if not path.is_file():  # a pipe would be waited for
            raise DamagedError(folder, f"{part}.npy is missing or not a regular file")
        try:
            images = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except Exception as error:  # numpy's parsers raise exceptions of many kinds
            raise DamagedError(folder, f"{part}.npy: {error}") from error
        if images.shape != shape:
            raise DamagedError(folder, f"{part}.npy has the shape {list(images.shape)}")
        labels = np.array(split.labels, np.int64)
        names = tuple("/".join(file.parts[-2:]) for file in split.files)
        parts.append(ImageSet(images, labels, len(class_names), names))
    train, test = parts
    return Data(name, train, test, class_names, transform, digest)


def _digest(folder: Path) -> str:
    try:
        content = read_bytes(folder / "sha256")
    except OSError as error:
        raise DamagedError(folder, f"sha256: {error.strerror}") from error
    if len(content) != 64:
        raise DamagedError(folder, "its SHA-256 is missing")
    return content.decode("ascii", errors="replace")
