"""A folder of PNG files by class, that torchvision, timm, Keras and `datasets` number alike."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
from anyascii import anyascii
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError
from unlearnable_bench.exporting import png
from unlearnable_bench.exporting.content import PoisonedSet, What, digits
from unlearnable_bench.harness.progress import Progress

TABLE = "index.csv"
_COLUMNS = ("file", "index", "label", "class", "protected", "source")
_BLOCK = 4096  # bytes that a small file takes at least on most disks


def class_folders(class_names: tuple[str, ...]) -> list[str]:
    """Return the name of each class's folder: its label with leading zeros, and its name.

    Some loaders number classes by names as text, others by the numbers in them (timm), so `10-dog`
    must come after `02-cat` in both orders. Names are ASCII, and short enough for any disk.

    Examples:
        >>> from unlearnable_bench.exporting.folder import class_folders
        >>> class_folders(("cat", "dog/wolf"))
        ['0-cat', '1-dog-wolf']
    """
    width = digits(len(class_names))
    plain = [re.sub(r"[^A-Za-z0-9_]+", "-", anyascii(name)).strip("-") for name in class_names]
    return [f"{k:0{width}}-{name[:60]}".rstrip("-") for k, name in enumerate(plain)]


def write(poisoned: PoisonedSet, _what: What, into: Path, show: Progress) -> None:
    """Write `train/CLASS/INDEX.png` and `index.csv`, and `test/CLASS/INDEX.png` if exported.

    Raises:
        UserError: a class has no images, so that loaders would give the others other numbers.
    """
    names = class_folders(poisoned.class_names)
    for split, images in poisoned.splits().items():
        empty = np.setdiff1d(np.arange(images.classes), images.labels)
        if len(empty):
            raise UserError(
                f"class {poisoned.class_names[empty[0]]!r} has no {split} images, so ImageFolder "
                "would refuse its folder and other loaders number the rest anew; export with "
                "--to hf or --to npz"
            )
    with (into / TABLE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for split, images in poisoned.splits().items():
            for name in names:
                (into / split / name).mkdir(parents=True)
            width, flags = digits(len(images)), poisoned.flags(split)
            labels = images.labels.tolist()
            for k in show.track(f"writing {split} images", len(images), range(len(images))):
                label = labels[k]
                place = f"{split}/{names[label]}/{k:0{width}}.png"
                (into / place).write_bytes(png.encode(images.images[k]))
                source = images.files[k] if images.files else ""
                text = poisoned.class_names[label]
                table.writerow((place, k, label, text, int(flags[k]), source))


def read(folder: Path, _what: What, count: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the training images, placed by their index, and their labels.

    Raises:
        UserError: a row of `index.csv` or a picture that is missing or damaged.
    """
    table = folder / TABLE
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("train/")]
    index = np.array([int(row["index"]) for row in rows])
    if not np.array_equal(np.sort(index), np.arange(count)):
        raise UserError(f"{table} does not name each of {count} images once; export it again")
    labels = np.zeros(count, np.int64)
    found: list[Any] = [None] * count
    for row in rows:
        place = int(row["index"])
        found[place] = png.decode((folder / row["file"]).read_bytes(), folder / row["file"])
        labels[place] = int(row["label"])
    return np.stack(found), labels


def size(poisoned: PoisonedSet, _what: What) -> int:
    """Return a bound on the bytes on the disk, in blocks."""
    total = 0
    for images in poisoned.splits().values():
        blocks = -(-png.largest(images.images[0]) // _BLOCK)
        total += len(images) * (blocks * _BLOCK + 256)
    return total
