"""Tar shards in the layout of WebDataset."""

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from unlearnable_bench.datasets.inventory import ENDINGS
from unlearnable_bench.datasets.own import PictureDataset
from unlearnable_bench.errors import UserError
from unlearnable_bench.file_kinds import folder_kind_of
from unlearnable_bench.images import Data, ImageSet, Pixels
from unlearnable_bench.options import option

_TEST = ("test", "val", "valid", "validation")
_SHARDS = (".tar", ".tar.gz", ".tgz")
_CLASSES = "classnames.txt"


@dataclass
class _Part:
    """The samples of a part.

    Attributes:
        images: the image of each sample.
        labels: the label of each sample, as text.
        names: the name of each image in its shard.
        classes: the class name of a label, if the samples have it.
    """

    images: list[Pixels] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    classes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WebDataset(PictureDataset):
    """Tar shards: webdataset:DIR with train-*.tar and test-*.tar, of KEY.png and KEY.cls.

    Shards may also lie in train/ and test/ (or val/). Labels are KEY.cls, or `label` in KEY.json:
    numbers from 0, or names. Names of numbers are `class` in KEY.json, or the lines of
    `classnames.txt`. Shards are read by the numbers in their names, samples in the shard's order.
    """

    kind: ClassVar[str] = "webdataset"
    path: str = option("", "path of the folder of shards")

    def load(self) -> Data:
        """Read all shards into memory; nothing is unpacked to the disk.

        Raises:
            UserError: missing shards, labels or images, or images of different sizes.
        """
        root = Path(self.path)
        kind = folder_kind_of(root)
        if kind:
            raise UserError(f"webdataset:{root} {kind}")
        train = self._part(root, _shards(root, ("train",)))
        test = self._part(root, _shards(root, _TEST))
        names, given = _class_names(root, train, test)
        parts = [
            ImageSet(
                np.stack(part.images),
                np.array([given[label] for label in part.labels], np.int64),
                len(names),
                tuple(part.names),
            )
            for part in (train, test)
        ]
        transform = self.transform(parts[0].size)
        return Data(f"webdataset:{root.name}", parts[0], parts[1], names, transform)

    def _part(self, root: Path, shards: list[Path]) -> _Part:
        part = _Part()
        for shard in shards:
            for name, image, (label, class_name) in _samples(shard):
                where = f"{shard}: {name}"
                part.images.append(self.decoded(image, where))
                self.check_size(part.images[-1], part.images[0], where)
                part.labels.append(label)
                part.names.append(name)
                if class_name:
                    part.classes[label] = class_name
        if not part.images:
            raise UserError(f"webdataset:{root}: {shards[0]} and its like have no images")
        return part


def _shards(root: Path, parts: tuple[str, ...]) -> list[Path]:
    """Return the shards of the first of these parts that has any, by the numbers in their names."""
    inside = sorted(root.iterdir()) if root.is_dir() else []
    for part in parts:
        beside = [path for path in inside if re.match(rf"{part}(?![a-z])", path.name.lower())]
        nested = [path for folder in beside if folder.is_dir() for path in sorted(folder.iterdir())]
        found = [
            path
            for path in (*beside, *nested)
            if path.name.lower().endswith(_SHARDS) and path.is_file()
        ]
        if found:
            return sorted(found, key=_natural)
    if not root.is_dir():
        raise UserError(f"webdataset:{root}: no such folder; write --dataset webdataset:FOLDER")
    raise UserError(
        f"webdataset:{root}: no shards {parts[0]}-*.tar or {parts[0]}/*.tar; images go to "
        "train-000000.tar and test-000000.tar as KEY.png and KEY.cls"
    )


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key by which s-2 comes before s-10."""
    pieces = re.split(r"([0-9]+)", str(path))
    return [(int(piece), "") if k % 2 else (0, piece) for k, piece in enumerate(pieces)]


def _samples(shard: Path) -> Iterator[tuple[str, bytes, tuple[str, str]]]:
    """Yield the image's name and content, and label and class name, of each sample.

    The members of a sample share a key, which is the path up to the first dot of a file's name.
    """
    images: dict[str, tuple[str, bytes]] = {}
    labels: dict[str, str] = {}
    listed: dict[str, tuple[str, str]] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if not member.isfile() or path.name.startswith("."):
                    continue
                key = str(path.with_name(path.name.partition(".")[0]))
                kind = path.suffix.lower()
                stream = tar.extractfile(member)
                content = stream.read() if stream else b""
                if kind in ENDINGS:
                    if key in images:
                        raise UserError(
                            f"{shard}: {images[key][0]} and {member.name} are one sample, since a "
                            "dot ends its key; rename them without dots"
                        )
                    images[key] = (member.name, content)
                elif kind == ".json":
                    listed[key] = _label_of(content, f"{shard}: {member.name}")
                elif ".cls" in path.suffixes:
                    labels[key] = content.decode(errors="replace").strip()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{shard} is not a readable tar file ({error}); copy it again") from error
    for key, (name, content) in images.items():
        label, class_name = listed.get(key, ("", ""))
        label = labels.get(key) or label
        if not label:
            raise UserError(f"{shard}: {name} has no label; add {key}.cls with its number")
        yield name, content, (label, class_name)


def _label_of(content: bytes, where: str) -> tuple[str, str]:
    """Return `label` and `class` of a JSON object as text, "" for each that it lacks."""
    try:
        about = json.loads(content)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}); repair it") from error
    found = [about.get(name, "") if isinstance(about, dict) else "" for name in ("label", "class")]
    label, class_name = (str(one) if isinstance(one, int | str) else "" for one in found)
    return label, class_name


def _class_names(root: Path, train: _Part, test: _Part) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the names of classes, and the number of each label."""
    labels = train.labels + test.labels
    listed = root / _CLASSES
    names = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    if not all(label.isascii() and label.isdecimal() for label in labels):
        texts = sorted({*labels})
        return tuple(texts), {text: k for k, text in enumerate(texts)}
    numbers = {label: int(label) for label in set(labels)}
    largest = max(numbers.values())
    if names and largest >= len(names):
        raise UserError(
            f"{listed} has {len(names)} names, the labels go up to {largest}; give one per line"
        )
    if largest >= len(labels):
        raise UserError(
            f"webdataset:{root} has the label {largest} and {len(labels)} images; number the "
            "classes from 0"
        )
    classes = train.classes | test.classes
    own = [classes.get(str(k), str(k)) for k in range(largest + 1)]
    return tuple(names or own), numbers
