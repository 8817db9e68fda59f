"""Data sets of Hugging Face, from a local folder or from its hub."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from unlearnable_bench.datasets.decoding import eight_bit_rgb
from unlearnable_bench.datasets.own import SplitDataset
from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Data, ImageSet, Pixels
from unlearnable_bench.options import option

_LABELS = ("label", "labels", "fine_label", "class", "target", "y")
_SAVED = ("dataset_dict.json", "state.json")  # of `save_to_disk`


@dataclass(frozen=True, kw_only=True)
class HuggingFace(SplitDataset):
    """A data set of Hugging Face: hf:FOLDER (read offline) or hf:OWNER/NAME from the hub.

    A folder is anything that `datasets.load_dataset` or `load_from_disk` reads, such as one of
    `ubench export --to hf --with-test`. Needs the extra: pip install 'unlearnable-bench[hf]'.
    """

    kind: ClassVar[str] = "hf"
    split_step: ClassVar[str] = " (`ubench export` writes test images --with-test)"
    path: str = option("", "path of the folder, or name on the hub")
    config: str | None = option(None, "configuration, for data sets that have several")
    image: str | None = option(None, "column of the images; none: the only such column")
    label: str | None = option(None, "column of the labels; none: the one of classes, or label")

    def load(self) -> Data:
        """Read both splits into memory.

        `datasets` turns pictures by their EXIF orientation; grey ones become RGB, and transparency
        is dropped.

        Raises:
            UserError: a missing package or folder, or splits, columns, labels or sizes that do not
                fit, and the option that names others.
        """
        datasets = _package()
        splits = self._splits(datasets)
        train, test = (splits[name] for name in self.chosen_splits(self._what, splits))
        image, label = self._image(datasets, train), self._label(datasets, train)
        for column in (image, label):
            if column not in test.column_names:
                raise UserError(f"{self._what} has no column {column!r} in its test images")
        names = _class_names(datasets, train, label)
        parts = [self._part(split, image, label, names) for split in (train, test)]
        place = Path(self.path)
        name = f"hf:{(place.resolve() if place.is_dir() else place).name}"
        return Data(name, parts[0], parts[1], names, self.transform(parts[0].size))

    @property
    def _what(self) -> str:
        return f"hf:{self.path}"

    def _splits(self, datasets: ModuleType) -> dict[str, Any]:
        """Return the splits by name."""
        place = Path(self.path)
        if not self.path:
            raise UserError("hf: needs a folder or a name on the hub; write hf:FOLDER")
        if place.is_file():
            raise UserError(f"{self._what} is a file; give the folder that holds it")
        # Names on the hub are NAME or OWNER/NAME; anything else can only be a path.
        if not place.is_dir() and (
            place.is_absolute()
            or len(place.parts) > 2
            or ".." in place.parts
            or self.path.startswith(("./", "~"))
        ):
            raise UserError(
                f"{self._what}: no such folder; give a folder, or OWNER/NAME of the hub"
            )
        saved = any((place / name).is_file() for name in _SAVED)
        # A name is needed: datasets 5.2 does not read ".".
        path = str(place.resolve()) if place.is_dir() else self.path
        try:
            with _silent(datasets):
                if saved:
                    found = datasets.load_from_disk(path)
                else:
                    found = datasets.load_dataset(path, self.config)
        except Exception as error:  # of the network, of files and of many packages
            reason = " ".join(str(error).split("\n")[0].split())
            raise UserError(
                f"{self._what} cannot be read ({reason})"
                if place.is_dir()
                else f"{self._what}: no such folder, and the hub does not give it ({reason})"
            ) from error
        if not isinstance(found, dict):
            raise UserError(f"{self._what} is one split; save a DatasetDict with train and test")
        return dict(found)

    def _image(self, datasets: ModuleType, split: Any) -> str:
        columns = [n for n, one in split.features.items() if isinstance(one, datasets.Image)]
        return self._column("image", self.image, columns, columns, split)

    def _label(self, datasets: ModuleType, split: Any) -> str:
        kinds = {
            name: isinstance(one, datasets.ClassLabel)
            for name, one in split.features.items()
            if isinstance(one, datasets.ClassLabel)
            or getattr(one, "dtype", None) in ("int64", "int32", "int16", "int8", "uint8", "string")
        }
        classes = [name for name, is_class in kinds.items() if is_class]
        named = [name for name in _LABELS if name in kinds]
        return self._column("label", self.label, classes or named[:1], list(kinds), split)

    def _column(
        self, kind: str, given: str | None, candidates: list[str], allowed: list[str], split: Any
    ) -> str:
        """Return the column that is named, or the only candidate."""
        if given is not None and given in allowed:
            return given
        if given is None and len(candidates) == 1:
            return candidates[0]
        has = ", ".join(split.column_names)
        number = f"{len(candidates)} columns" if candidates else "no column"
        problem = f"{number} of {kind}s" if given is None else f"no column of {kind}s {given!r}"
        few = f"; name one of {', '.join(allowed)} with --set hf.{kind}=COLUMN" if allowed else ""
        raise UserError(f"{self._what} has {problem}, it has {has}{few}")

    def _part(self, split: Any, image: str, label: str, names: tuple[str, ...]) -> ImageSet:
        """Return the images and labels of a split."""
        pixels: list[Pixels] = []
        labels: list[int] = []
        rows = iter(split.select_columns([image, label]))
        for k in range(len(split)):
            where = f"{self._what}: image {k}"
            try:
                row = next(rows)
                picture = eight_bit_rgb(row[image], where, self.size)
            except UserError:
                raise
            except Exception as error:  # of Pillow, or an image that is None
                raise UserError(f"{where} cannot be read ({error}); remove its row") from error
            pixels.append(picture)
            labels.append(_number(row[label], names, where))
            self.check_size(picture, pixels[0], where)
        if not pixels:
            raise UserError(f"{self._what}: a split has no images")
        return ImageSet(np.stack(pixels), np.array(labels, np.int64), len(names))


def _package() -> ModuleType:
    try:
        import datasets  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UserError(
            "hf: needs the package datasets: pip install 'unlearnable-bench[hf]'"
        ) from error
    return datasets  # type: ignore[no-any-return]


@contextmanager
def _silent(datasets: ModuleType) -> Iterator[None]:
    """Show no progress bars and no retries, which would run into the output of the plan."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        if shown:
            datasets.enable_progress_bars()


def _class_names(datasets: ModuleType, split: Any, label: str) -> tuple[str, ...]:
    """Return the names of the classes by label; of texts, those of the training images, sorted."""
    feature = split.features[label]
    if isinstance(feature, datasets.ClassLabel):
        return tuple(feature.names)
    values = split.unique(label)
    if feature.dtype == "string":
        return tuple(sorted(map(str, values)))
    return tuple(map(str, range(max(values, default=-1) + 1)))


def _number(value: Any, names: tuple[str, ...], where: str) -> int:
    """Return the label of an image.

    Raises:
        UserError: it has none, or a class that no training image has.
    """
    number = names.index(value) if isinstance(value, str) and value in names else value
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise UserError(
            f"{where} has the label {value!r}, which is none of {len(names)} classes of the "
            "training images; hidden labels are often -1: name a split with labels, --set "
            "hf.test=SPLIT"
        )
    return number
