"""What a saved array means: noise or poisoned images, in which units and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError
from unlearnable_bench.images import ImageSet
from unlearnable_bench.images import blocks as slices
from unlearnable_bench.saved import Saved
from unlearnable_bench.saved_forms import Fitted, Rows

_SAMPLE = 512  # images by which the meaning is decided
_CHECKED = 4096  # images whose order is checked
_FAINT = 32  # largest level of what is never taken for images, which are brighter
_CLEARLY = 0.8  # of the squared distance; frames of a film are as close as their neighbours
_SHIFTS = 5  # distances to other clean images with which each of them is compared


@dataclass(frozen=True)
class Reading:
    """One meaning of an array; scale * value + offset are 8-bit levels.

    Attributes:
        images: poisoned images, otherwise noise.
        units: the units, for messages.
        scale: factor of the values.
        offset: level of the value 0.
        low: smallest value that the units allow, with some room.
        high: largest value that the units allow, with some room.
    """

    images: bool
    units: str
    scale: float = 1
    offset: float = 0
    low: float = -np.inf
    high: float = np.inf

    def worst(self, span: "Extent") -> float:
        """Return the largest absolute level of values of this extent."""
        return max(abs(self.scale * value + self.offset) for value in (span.low, span.high))

    def levels(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values in 8-bit levels, unrounded; floats keep their type."""
        if self.scale == 1 and self.offset == 0:
            return values
        scaled: NDArray[Any] = self.scale * values
        return scaled + self.offset if self.offset else scaled

    def poisoned(self, values: NDArray[Any], clean: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the poisoned images without regard to any radius."""
        if self.images and values.dtype == np.uint8:
            return values
        levels = np.rint(self.levels(values.astype(np.float64)))
        base = 0 if self.images else clean
        whole: NDArray[np.uint8] = np.clip(base + levels, 0, 255).astype(np.uint8)
        return whole

    def __str__(self) -> str:
        return f"{'poisoned images' if self.images else 'noise'} in {self.units}"


_LEVELS = Reading(images=False, units="8-bit levels")
# A float, since no uint8 holds -128.
_AROUND = Reading(images=False, units="8-bit levels around 128", offset=-128.0)
_PIXEL_RANGE = Reading(images=False, units="units of the pixel range", scale=255)
BYTES = Reading(images=True, units="8-bit levels")
_WIDE = Reading(images=True, units="levels 0 to 255", low=-64, high=319)
_SIGNED = Reading(images=True, units="levels -128 to 127", offset=128, low=-128, high=127)
_UNIT = Reading(images=True, units="values 0 to 1", scale=255, low=-0.25, high=1.25)
_CENTRED = Reading(
    images=True, units="values -1 to 1", scale=127.5, offset=127.5, low=-1.5, high=1.5
)


@dataclass(frozen=True)
class Extent:
    """Smallest and largest value of an array, and whether all are whole numbers."""

    low: float
    high: float
    whole: bool

    @property
    def worst(self) -> float:
        """Largest absolute value."""
        return max(self.high, -self.low)


def extent(path: Path, array: NDArray[Any]) -> Extent:
    """Return the extent of an array [N, H, W, 3].

    Raises:
        UserError: a type that is neither noise nor images, or a value that is not finite.
    """
    if array.dtype.kind not in "fi" and array.dtype != np.uint8:
        raise UserError(
            f"{path} holds {array.dtype}; allowed: uint8 (poisoned images), signed integers and "
            "floats (noise, or poisoned images)"
        )
    low, high, whole = np.inf, -np.inf, True
    for start, block in blocks(array):
        finite = np.isfinite(block)
        if not finite.all():
            row = start + int(np.argmin(finite.reshape(len(block), -1).all(1)))
            raise UserError(f"{path} is not finite at row {row}; remove NaN and infinity")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        whole = whole and (block.dtype.kind != "f" or bool((block == np.rint(block)).all()))
    return Extent(low, high, whole)


def blocks(rows: NDArray[Any] | Rows) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield parts of an array that fit into memory, each with the index of its first row."""
    for part in slices(rows):
        yield part.start, np.ascontiguousarray(rows[part])


def decide(path: Path, fitted: Fitted, span: Extent, content: str | None) -> Reading:
    """Return the meaning of an array: noise, or images if it is distributed as the clean images.

    Compared are the mean size of the values as noise, and the distance between the levels that
    they have as images and the clean levels (the first Wasserstein distance, in any order of the
    images). Sparse noise, such as single pixels of any strength, is small in the mean.

    Args:
        path: the file, for messages.
        fitted: noise or images, and the clean images.
        span: the extent of the values.
        content: "noise" or "images" if the user says so.

    Raises:
        UserError: values that are neither.
    """
    images = fitted.images.images
    index = np.unique(np.linspace(0, len(images) - 1, min(_SAMPLE, len(images))).astype(int))
    values, clean = np.ascontiguousarray(fitted.rows[index]), images[index]
    if values.dtype == np.uint8:
        return _of_bytes(path, values, span, clean, content)
    floats = values.dtype.kind == "f"
    noise = None if floats and span.worst > 1 and not span.whole else _LEVELS
    if floats and span.worst <= 1:
        noise = _PIXEL_RANGE
    candidates = [
        reading
        for reading in ((_UNIT, _WIDE, _CENTRED) if floats else (_WIDE, _SIGNED))
        if reading.low <= span.low and span.high <= reading.high
    ]
    if content is None and noise and span.worst * noise.scale <= _FAINT:
        return noise
    distances = {one: _distance(one.poisoned(values, clean), clean) for one in candidates}
    best = min(distances, key=distances.__getitem__, default=None)
    if content == "noise":
        best = None
    elif best and content is None:
        # Images have no negative values, unless they were centred or never clipped.
        sure = 1 if noise and span.low >= 0 else 0.5
        limit = _mean(noise.levels(values.astype(np.float64))) if noise else _unlike(clean)
        best = best if distances[best] < sure * limit else None
    chosen = best or (None if content == "images" else noise)
    if chosen is None:
        raise UserError(
            f"{path} holds values from {span.low:g} to {span.high:g}, neither noise in units of "
            "the pixel range (-1 to 1) or in whole levels, nor images near the clean ones; undo "
            "their normalisation, and save images as uint8 or noise as int8"
        )
    return chosen


def _of_bytes(
    path: Path,
    values: NDArray[np.uint8],
    span: Extent,
    clean: NDArray[np.uint8],
    content: str | None,
) -> Reading:
    """Return the meaning of uint8: poisoned images, unless all values are near 128 only as noise.

    Pictures of noise have 128 for 0, since a picture has no negative values.
    """
    grey = _AROUND.worst(span) <= _FAINT
    if content == "noise" and not grey:
        raise UserError(
            f"{path} holds uint8 from {span.low:g} to {span.high:g}, which has no sign; save noise "
            "as int8 or floats, or with 128 for 0"
        )
    noise = grey and _distance(values, clean) >= _mean(_AROUND.levels(values))
    return _AROUND if content == "noise" or (content is None and noise) else BYTES


def _distance(images: NDArray[np.uint8], clean: NDArray[np.uint8]) -> float:
    """Return the first Wasserstein distance between the levels of two arrays."""
    one, other = (np.cumsum(np.bincount(x.reshape(-1), minlength=256)) for x in (images, clean))
    return float(np.abs(one - other).sum() / clean.size)


def _mean(levels: NDArray[Any]) -> float:
    return float(np.abs(levels).mean())


def _unlike(clean: NDArray[np.uint8]) -> float:
    """Return the mean change from one image to another."""
    return _mean(np.roll(clean, 1, axis=0).astype(np.int16) - clean)


def order(path: Path, fitted: Fitted, reading: Reading) -> str:
    """Check the order of the rows by all that there is to check it, and return by what.

    Raises:
        UserError: labels or file names that differ from those of the images, or poisoned images
            that are closer to other clean images than to their own.
    """
    checks = labels_and_files(fitted.saved, fitted.images)
    if reading.images:
        _refuse_strangers(path, fitted.rows, reading, fitted.images)
        checks.append("each is nearest to its own clean image")
    if checks:
        return f"order checked: {', '.join(checks)}"
    if fitted.saved.files is not None:
        return "order not checked (the data set has no file names)"
    return "order not checked"


def labels_and_files(saved: Saved, images: ImageSet) -> list[str]:
    """Check the order of the rows by labels and file names, and return what agrees.

    Raises:
        UserError: labels or file names that differ from those of the images.
    """
    checks = []
    if saved.labels is not None:
        _same(saved, "label", [*map(str, saved.labels)], [*map(str, images.labels)])
        checks.append("labels agree")
    if saved.files is not None and images.files is not None:
        own = [_matching(name, file) for name, file in zip(saved.files, images.files, strict=True)]
        _same(saved, "file", own, list(images.files))
        checks.append("file names agree")
    return checks


def _matching(name: str, file: str) -> str:
    """Return the file of the data set if a name is the end of its path, or the reverse."""
    one = name.replace("\\", "/").removeprefix("./")
    same = one == file or file.endswith(f"/{one}") or one.endswith(f"/{file}")
    return file if same else one


def _same(saved: Saved, kind: str, given: list[str], wanted: list[str]) -> None:
    wrong = [k for k, (one, other) in enumerate(zip(given, wanted, strict=True)) if one != other]
    if wrong:
        first = wrong[0]
        raise UserError(
            f"{saved.source}: the {kind} of {len(wrong)} of {len(wanted)} rows is not that of the "
            f"data set, e.g. of row {first}: {given[first]} instead of {wanted[first]}; sort the "
            "array as the training images are"
        )


def _refuse_strangers(path: Path, rows: Rows, reading: Reading, images: ImageSet) -> None:
    """Refuse poisoned images of which more than 1 % are clearly closer to another clean image."""
    found, checked = strangers(rows, reading, images)
    if len(found) > 0.01 * checked:
        raise UserError(
            f"{path} holds {reading}, and {len(found)} of {checked} are closer to another "
            f"clean image than to their own, e.g. image {found[0]}; sort them as the training "
            "images are, or check their layout; if it is noise: save it as int8 or floats, and "
            "--set file.content=noise"
        )


def strangers(
    array: NDArray[Any] | Rows, reading: Reading, images: ImageSet
) -> tuple[list[int], int]:
    """Return the images that are clearly closer to another clean image, of how many.

    Args:
        array: images [N, H, W, 3], in the order of the clean ones.
        reading: their meaning.
        images: the clean images.

    Returns:
        Indices of such images, and the number of images that were compared.
    """
    count = len(images)
    index = np.unique(np.linspace(0, count - 1, min(_CHECKED, count)).astype(int))
    steps = {count * k // (_SHIFTS + 1) or k for k in range(1, _SHIFTS)} | {1, -1}
    shifts = sorted(step % count for step in steps if step % count)
    found: list[int] = []
    for block in slices(images.images[: len(index)]):
        part = index[block]
        poisoned = reading.poisoned(np.ascontiguousarray(array[part]), images.images[part])
        limit = _CLEARLY * _squares(poisoned, images.images[part])
        closer = np.zeros(len(part), bool)
        for shift in shifts:
            closer |= _squares(poisoned, images.images[(part + shift) % count]) < limit
        found += part[closer].tolist()
    return found, len(index)


def _squares(poisoned: NDArray[np.uint8], clean: NDArray[np.uint8]) -> NDArray[np.float32]:
    change = (poisoned.astype(np.int16) - clean).astype(np.float32)
    total: NDArray[np.float32] = (change**2).sum((1, 2, 3))
    return total
