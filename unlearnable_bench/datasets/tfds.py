"""Folders that tensorflow_datasets has written, read without TensorFlow."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unlearnable_bench.datasets.example import Feature, features
from unlearnable_bench.datasets.own import SplitDataset
from unlearnable_bench.datasets.tfrecord import records
from unlearnable_bench.errors import UserError
from unlearnable_bench.file_kinds import folder_kind_of
from unlearnable_bench.images import Data, ImageSet, Pixels
from unlearnable_bench.options import option

_INFO, _FEATURES = "dataset_info.json", "features.json"
_SHARD = re.compile(r"(?P<split>[A-Za-z0-9_]+)\.tfrecord-(?P<index>\d+)-of-(?P<count>\d+)$")
_SHOWN = 3  # folders in a message


@dataclass(frozen=True, kw_only=True)
class TFDS(SplitDataset):
    """A folder that tensorflow_datasets wrote as TFRecord: tfds:DIR, e.g. .../cifar10/3.0.2.

    DIR holds dataset_info.json, features.json and NAME-SPLIT.tfrecord-00000-of-00001; the folder
    above is read if it has one version. TensorFlow is not needed.
    """

    kind: ClassVar[str] = "tfds"
    path: str = option("", "path of the folder of a version, or of the one above it")
    image: str | None = option(None, "feature of the images; none: the only one of images")
    label: str | None = option(None, "feature of the labels; none: label, or the only one")

    def load(self) -> Data:
        """Read both splits into memory, in the order of shards and records.

        Raises:
            UserError: missing or damaged files, or splits, features, labels or sizes that do not
                fit, and the option that names others.
        """
        root = _version_folder(Path(self.path))
        what = f"tfds:{root}"
        info, kinds = _json(root / _INFO), _kinds(root / _FEATURES)
        form = info.get("fileFormat", "tfrecord")
        if form != "tfrecord":
            raise UserError(
                f"{what} holds {form} files; write them again: tfds.builder(NAME, "
                "file_format='tfrecord').download_and_prepare()"
            )
        image = _chosen(what, "image", self.image, kinds)
        label = _chosen(what, "label", self.label, kinds)
        names = _class_names(root, label, kinds[label])
        splits = _splits(what, info)
        chosen = self.chosen_splits(what, splits)
        parts = [
            self._part(part, _shards(root, split, splits[split]), image, label, names)
            for part, split in zip(("train", "test"), chosen, strict=True)
        ]
        name = f"tfds:{root.resolve().parent.name if _is_version(root) else root.resolve().name}"
        return Data(name, parts[0], parts[1], names, self.transform(parts[0].size))

    def _part(
        self,
        part: str,
        shards: list[tuple[Path, int]],
        image: str,
        label: str,
        names: tuple[str, ...],
    ) -> ImageSet:
        """Return the images and labels of a split."""
        images: list[Pixels] = []
        labels: list[int] = []
        for shard, count in shards:
            held = records(shard)
            if len(held) != count:
                raise UserError(
                    f"{shard} has {len(held)} records, {_INFO} says {count}; copy both again"
                )
            for k, record in enumerate(held):
                where = f"{shard}: record {k}"
                try:
                    found = features(record)
                except ValueError as error:
                    raise UserError(f"{where} cannot be read: {error}; write it again") from error
                images.append(self.decoded(_value(found, image, bytes, where), where))
                self.check_size(images[-1], images[0], where)
                labels.append(_value(found, label, int, where))
                if not 0 <= labels[-1] < len(names):
                    raise UserError(
                        f"{where} has the label {labels[-1]}, the classes are 0 to "
                        f"{len(names) - 1}; name a split whose labels are not hidden with --set "
                        f"tfds.{part}=SPLIT, or copy it again"
                    )
        if not images:
            raise UserError(f"{shards[0][0]} has no images; write the data set again")
        return ImageSet(np.stack(images), np.array(labels, np.int64), len(names))


def _version_folder(root: Path) -> Path:
    """Return the folder with the shards: the one that is given, or the only one below it."""
    kind = folder_kind_of(root)
    if kind:
        raise UserError(f"tfds:{root} {kind}")
    if not root.is_dir():
        raise UserError(f"tfds:{root}: no such folder; write --dataset tfds:FOLDER")
    if (root / _INFO).is_file():
        return root
    below = sorted(path.parent for path in root.rglob(_INFO))
    if len(below) == 1:
        return below[0]
    if not below:
        raise UserError(
            f"tfds:{root} has no {_INFO}; give the folder of a version, such as "
            "~/tensorflow_datasets/cifar10/3.0.2"
        )
    some = ", ".join(map(str, below[:_SHOWN])) + (", ..." if len(below) > _SHOWN else "")
    raise UserError(f"tfds:{root} holds {len(below)} data sets; give one of {some}")


def _is_version(root: Path) -> bool:
    return bool(re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", root.resolve().name))


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; copy the whole folder again") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not readable JSON ({error}); copy it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object; copy it again")
    return found


def _kinds(path: Path) -> dict[str, dict[str, Any]]:
    """Return the description of each feature by the name that it has in the records."""
    try:
        found = dict(_described(_json(path)))
        for about in found.values():
            int(about.get("classLabel", {}).get("numClasses", 0))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} describes no features; copy it again") from error
    return found


def _described(message: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, about in message["featuresDict"]["features"].items():
        if "featuresDict" in about:
            yield from _described(about, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", about


def _chosen(what: str, kind: str, given: str | None, kinds: dict[str, dict[str, Any]]) -> str:
    """Return the feature of the images or of the labels."""
    key = {"image": "image", "label": "classLabel"}[kind]
    able = [name for name, about in kinds.items() if key in about]
    if given is None and (len(able) == 1 or kind in able):
        return kind if kind in able else able[0]
    if given in able:
        return given
    problem = f"{len(able) or 'no'} features of {kind}s"
    problem = f"no feature of {kind}s {given!r}" if given else problem
    step = f"name one of {', '.join(able)} with --set tfds.{kind}=FEATURE"
    has = ", ".join(kinds) or "none"
    raise UserError(f"{what} has {problem}, it has {has}" + (f"; {step}" if able else ""))


def _class_names(root: Path, label: str, about: dict[str, Any]) -> tuple[str, ...]:
    """Return the lines of `label.labels.txt`, or the labels as text if it is missing."""
    count = int(about["classLabel"].get("numClasses", 0))
    listed = root / f"{label.replace('/', '-')}.labels.txt"
    if not listed.is_file():
        if count < 1:
            raise UserError(f"{listed} is missing, and {_FEATURES} says no number of classes")
        return tuple(map(str, range(count)))
    names = tuple(listed.read_text(encoding="utf-8").splitlines())
    if count not in (0, len(names)):
        raise UserError(f"{listed} has {len(names)} names, {_FEATURES} says {count}; copy it again")
    return names


def _splits(what: str, info: dict[str, Any]) -> dict[str, list[int]]:
    """Return the number of records in each shard, by split."""
    try:
        return {one["name"]: [int(n) for n in one["shardLengths"]] for one in info["splits"]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{what}: {_INFO} names no splits with shardLengths; write the data set again with a "
            "newer tensorflow_datasets"
        ) from error


def _shards(root: Path, split: str, lengths: list[int]) -> list[tuple[Path, int]]:
    """Return the files of a split in their order, with their number of records."""
    found: dict[int, list[Path]] = defaultdict(list)
    for path in sorted(root.iterdir()):
        match = _SHARD.search(path.name)
        if match and match["split"] == split and int(match["count"]) == len(lengths):
            found[int(match["index"])].append(path)
    missing = [k for k in range(len(lengths)) if k not in found]
    if missing:
        example = f"*-{split}.tfrecord-{missing[0]:05}-of-{len(lengths):05}"
        raise UserError(
            f"tfds:{root} lacks {len(missing)} of {len(lengths)} files of the split {split}, such "
            f"as {example}; copy it again"
        )
    return [(found[k][0], count) for k, count in enumerate(lengths)]


def _value(found: dict[str, Feature], name: str, kind: type, where: str) -> Any:
    """Return the one value of a feature."""
    values = found.get(name, [])
    if len(values) != 1 or not isinstance(values[0], kind):
        raise UserError(
            f"{where} has no {'image' if kind is bytes else 'label'} in the feature {name}, it has "
            f"{', '.join(sorted(found)) or 'no features'}; write it again"
        )
    return values[0]
