"""WebDataset shards: tar files of INDEX.png, INDEX.cls and INDEX.json."""

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError
from unlearnable_bench.exporting import png
from unlearnable_bench.exporting.content import PoisonedSet, What, digits
from unlearnable_bench.harness.progress import Progress

_SAMPLES = 10_000  # of a shard
_BLOCK = 512  # bytes of a tar file's header, and of its padding


def write(poisoned: PoisonedSet, _what: What, into: Path, show: Progress) -> None:
    """Write `SPLIT-000000.tar` and so on.

    Keys are indices with leading zeros: a dot in a key would end it, so that samples are merged,
    and names of equal length have one order as text and as numbers.
    """
    for split, images in poisoned.splits().items():
        width, flags = digits(len(images)), poisoned.flags(split)
        for shard, start in enumerate(range(0, len(images), _SAMPLES)):
            with tarfile.open(into / f"{split}-{shard:06}.tar", "w") as tar:
                part = range(start, min(start + _SAMPLES, len(images)))
                for k in show.track(f"writing {split} images", len(images), part):
                    label = int(images.labels[k])
                    about = {
                        "index": k,
                        "label": label,
                        "class": poisoned.class_names[label],
                        "protected": bool(flags[k]),
                    }
                    key = f"{k:0{width}}"
                    _add(tar, f"{key}.png", png.encode(images.images[k]))
                    _add(tar, f"{key}.cls", str(label).encode())
                    _add(tar, f"{key}.json", json.dumps(about).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file without time and owner, so that equal exports are equal files."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, BytesIO(content))


def read(folder: Path, _what: What, count: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the training images, placed by their index, and their labels.

    Nothing is unpacked to the disk.

    Raises:
        UserError: a sample is missing or damaged.
    """
    found: dict[str, Any] = {}
    labels: dict[str, int] = {}
    for shard in sorted(folder.glob("train-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                stream = tar.extractfile(member)
                content = stream.read() if stream else b""
                if kind == "png":
                    found[key] = png.decode(content, f"{shard}: {member.name}")
                elif kind == "cls":
                    labels[key] = int(content)
    keys = [f"{k:0{digits(count)}}" for k in range(count)]
    if not set(keys) == found.keys() == labels.keys():
        raise UserError(f"{folder} does not hold each of {count} images once; export it again")
    return np.stack([found[k] for k in keys]), np.array([labels[k] for k in keys], np.int64)


def size(poisoned: PoisonedSet, _what: What) -> int:
    """Return a bound on the bytes of the shards."""
    total = 0
    for images in poisoned.splits().values():
        blocks = -(-png.largest(images.images[0]) // _BLOCK) + 5  # three headers, two small files
        total += len(images) * blocks * _BLOCK + 20 * _BLOCK * (1 + len(images) // _SAMPLES)
    return total
