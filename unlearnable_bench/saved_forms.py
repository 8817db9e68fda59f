"""Which training image each row of a saved array belongs to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError
from unlearnable_bench.images import ImageSet
from unlearnable_bench.saved import Saved
from unlearnable_bench.saved_pictures import numbers

_Index = NDArray[np.int64]
_CLASSWISE = "one per class, dealt out by label"


@dataclass(frozen=True, eq=False)
class Rows:
    """The row of each image, taken out of an array when it is needed.

    One pattern per class, repeated for all images, would take the memory of all of them.

    Attributes:
        array: the rows of a file, [R, H, W, 3].
        index: the row of each image, int64 [M]; None: row k is that of image k.
    """

    array: NDArray[Any]
    index: _Index | None = None

    def __len__(self) -> int:
        return len(self.array if self.index is None else self.index)

    def __getitem__(self, part: slice | _Index) -> NDArray[Any]:
        rows: NDArray[Any] = self.array[part if self.index is None else self.index[part]]
        return rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.array.dtype


@dataclass(frozen=True, eq=False)
class Fitted:
    """Rows and the images that they belong to.

    Attributes:
        saved: what the file holds, with labels and names in the order of `images`.
        rows: a row for each of `images`.
        images: the training images that have a row.
        covered: the indices of these images, int64 [M]; None: all, in order.
        how: how the rows were dealt out, for the printed plan; "": in order.
        shared: whether images share a row.
    """

    saved: Saved
    rows: Rows
    images: ImageSet
    covered: _Index | None = None
    how: str = ""
    shared: bool = False


def fit(path: Path, saved: Saved, images: ImageSet) -> Fitted:
    """Deal the rows of a file out to the training images.

    In this order: by `index`, by file names, by the numbers in the names of pictures, one for all
    images, one per class, or by class if the rows are sorted by label. Otherwise row k is that of
    image k.

    Args:
        path: the file, for messages.
        saved: its content.
        images: the clean training images.

    Raises:
        UserError: rows of another size, or of which the images are not clear.
    """
    _check_size(path, saved, images)
    if saved.index is not None and not np.array_equal(saved.index, np.arange(len(images))):
        return _by_index(saved, images, saved.index, "dealt out by index")
    # Names and labels in a CSV are only compared: the CSV is no part of the keys of results.
    named = _by_name(saved, images) if saved.source == str(path) else None
    if named:
        return named
    if saved.pictures:
        index = numbers(path, saved.files or ())
        how = "dealt out by the number in their names"
        return _by_index(replace(saved, files=None), images, index, how)
    if saved.labels is None:
        return _by_count(path, saved, images)
    return _by_label(path, saved, images, saved.labels)


def _by_count(path: Path, saved: Saved, images: ImageSet) -> Fitted:
    """Return rows without labels: as many as images or as classes, or one."""
    rows, count, labels = len(saved.array), len(images), images.labels
    if rows == count == images.classes and (labels != np.arange(count)).any():
        raise UserError(
            f"{path} has {rows} rows, and the data as many images as classes; save the labels "
            "of the rows, too: np.savez('noise.npz', noise=noise, labels=labels)"
        )
    if rows == count:
        return Fitted(saved, Rows(saved.array), images)
    if rows == 1:
        return _shared(saved, images, np.zeros(count, np.int64), "one for all images", "1")
    if rows == images.classes:
        return _shared(saved, images, labels, _CLASSWISE, "C")
    raise _misfit(path, rows, images)


def _by_label(path: Path, saved: Saved, images: ImageSet, own: _Index) -> Fitted:
    """Return rows with these labels: in order, one per class, or sorted by label."""
    rows, labels = len(own), images.labels
    if np.array_equal(own, labels):
        return Fitted(saved, Rows(saved.array), images)
    inside = saved.source == str(path)
    each = rows == images.classes and np.array_equal(np.sort(own), np.arange(rows))
    if each and inside:
        return _shared(saved, images, np.argsort(own)[labels], _CLASSWISE, "C")
    if (np.diff(own) >= 0).all():
        if not inside:
            raise UserError(
                f"{saved.source} sorts the rows by label, and the images have another order; save "
                "the labels with the rows: np.savez('noise.npz', noise=noise, labels=labels)"
            )
        return _by_class(saved, images, own)
    if rows == len(images):
        return Fitted(saved, Rows(saved.array), images)  # refused by its labels
    raise _misfit(path, rows, images)


def _check_size(path: Path, saved: Saved, images: ImageSet) -> None:
    size, wanted = saved.array.shape[1:], images.images.shape[1:]
    if size != wanted:
        raise UserError(
            f"{path} holds rows of {list(size)}, the images are {list(wanted)}; make the noise at "
            "the size of the images"
        )


def _misfit(path: Path, rows: int, images: ImageSet) -> UserError:
    count = len(images)
    what = f"{path} has {rows} rows, the data has {count} images in {images.classes} classes"
    if rows > count:
        return UserError(f"{what}; give one row per image or per class, or one for all images")
    return UserError(
        f"{what}; if the rows cover a part of the images, save the indices of these, from 0: "
        "np.savez('noise.npz', noise=noise, index=index, labels=labels)"
    )


def _shared(saved: Saved, images: ImageSet, index: _Index, how: str, axis: str) -> Fitted:
    """Return rows that several images share; labels of the rows have been used."""
    layout = saved.layout.replace("N, ", f"{axis}, ")
    shared = replace(saved, labels=None, files=None, layout=layout)
    return Fitted(shared, Rows(saved.array, index), images, how=how, shared=True)


def _by_index(saved: Saved, images: ImageSet, index: _Index, how: str) -> Fitted:
    """Return rows of the images with these indices, one for each row."""
    count = len(images)
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= count:
        step = "; subtract 1 if they count from 1" if (low, high) == (1, count) else ""
        raise UserError(
            f"{saved.source}: the indices span {low} to {high}, allowed: 0 to {count - 1}{step}"
        )
    order = np.argsort(index, kind="stable")
    covered = index[order]
    twice = np.flatnonzero(np.diff(covered) == 0)
    if len(twice):
        raise UserError(
            f"{saved.source}: image {covered[twice[0]]} has more than one row; give it one"
        )
    ordered = replace(
        saved,
        index=None,
        labels=None if saved.labels is None else saved.labels[order],
        files=None if saved.files is None else tuple(saved.files[k] for k in order),
    )
    if len(covered) == count:
        return Fitted(ordered, Rows(saved.array, order), images, how=how)
    part = images.subset(covered)
    how += f", {len(covered)} of {count} images; the others stay clean"
    return Fitted(ordered, Rows(saved.array, order), part, covered, how)


def _by_name(saved: Saved, images: ImageSet) -> Fitted | None:
    """Return rows dealt out by file names; None if they are in order, or not these names."""
    if saved.files is None or images.files is None:
        return None
    index = [*_matches(saved.files, images.files)]
    known = [k for k in index if k is not None]
    if len(known) < len(index):
        if not known or not saved.pictures:
            return None
        strange = saved.files[index.index(None)]
        raise UserError(
            f"{saved.source}: {strange} is not the name of one training image, as "
            f"{len(known)} other names are; rename or remove it"
        )
    found = np.array(known, np.int64)
    if not saved.pictures and np.array_equal(found, np.arange(len(images))):
        return None
    return _by_index(replace(saved, files=None), images, found, "dealt out by file name")


def _matches(names: Sequence[str], files: Sequence[str]) -> Iterator[int | None]:
    """Yield the index of the file that a name means; None if there is none, or several.

    A name means a file if one is the end of the other's path. Endings do not matter, since poisons
    of JPEGs are saved as PNGs.
    """
    ends: dict[str, int | None] = {}
    for index, file in enumerate(files):
        for end in _ends(file):
            ends[end] = None if end in ends else index
    whole = {_ends(file)[0] for file in files}
    for name in names:
        longest, *shorter = _ends(name.replace("\\", "/").removeprefix("./"))
        inner = next((end for end in shorter if end in whole), longest)
        yield ends.get(longest if longest in ends else inner)


def _ends(file: str) -> list[str]:
    """Return a path without its ending, and what remains of it without its first folders."""
    parts = PurePosixPath(file).with_suffix("").parts
    return ["/".join(parts[k:]) for k in range(len(parts))]


def _by_class(saved: Saved, images: ImageSet, own: _Index) -> Fitted:
    """Return rows sorted by label, the k-th of a class for its k-th image."""
    labels = images.labels
    for label in range(min(0, int(own.min())), max(images.classes, int(own.max()) + 1)):
        rows, count = int((own == label).sum()), int((labels == label).sum())
        if rows != count:
            raise UserError(
                f"{saved.source} has {rows} rows of class {label}, the data has {count} images of "
                "it; give as many rows as images, or the indices of the images (`index`)"
            )
    index = np.empty(len(labels), np.int64)
    index[np.argsort(labels, kind="stable")] = np.arange(len(labels))
    how = "sorted by label, so dealt out to the images of each class in order"
    # The labels have been used, and cannot tell the images of a class apart.
    return Fitted(
        replace(saved, labels=None, files=None), Rows(saved.array, index), images, how=how
    )
