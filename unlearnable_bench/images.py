"""What travels between the stages: 8-bit images, and poisons with the budget they promise."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, SupportsFloat, get_args

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.radius import Radius

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Labelled images, read-only: they serve every cell of a run; change a copy.

    Attributes:
        images: uint8 [N, H, W, 3], square, RGB.
        labels: int64 [N], from 0 to the number of classes less one.
        classes: number of classes of the task (a split may lack some).
    """

    images: Pixels
    labels: Labels
    classes: int

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"<ImageSet: {len(self)} images of {self.size} px, {self.classes} classes>"

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return int(self.images.shape[1])

    def subset(self, index: Labels) -> "ImageSet":
        """Return the images of these indices, in this order."""
        return ImageSet(self.images[index], self.labels[index], self.classes)

    def replaced(self, images: Pixels) -> "ImageSet":
        """Return other images with the same labels."""
        return ImageSet(images, self.labels, self.classes)

    def digest(self) -> str:
        """SHA-256 of shape, pixels and labels."""
        sha = hashlib.sha256(str(self.images.shape).encode())
        sha.update(np.ascontiguousarray(self.images).data)
        sha.update(np.ascontiguousarray(self.labels).data)
        return sha.hexdigest()


class Transform(NamedTuple):
    """The random transformation t of training: zero-padded crop and horizontal flip.

    Attributes:
        pad: largest shift in pixels (CIFAR: 4).
        flip: whether half of the images are mirrored.
    """

    pad: int
    flip: bool

    def view(self, size: int) -> int:
        """Return the height and width of the views of images of that size."""
        return size


class ResizedCrop(NamedTuple):
    """The random transformation t of ImageNet: a box of any place, size and shape, and a flip.

    Attributes:
        crop: height and width to which the box is scaled, in pixels.
        flip: whether half of the images are mirrored.
        area: smallest share of the image that a box covers; the largest is 1.
    """

    crop: int
    flip: bool
    area: float = 0.08

    def view(self, size: int) -> int:
        """Return the height and width of the views of images of that size."""
        return self.crop


def centre(size: int, view: int) -> slice:
    """Return the rows (or columns) of a central crop of `view` out of `size` pixels."""
    start = round((size - view) / 2)
    return slice(start, start + view)


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set: training images, test images, and what training may do to them.

    Test images have the size of the training images' views. `digest` is what `sha256`
    would compute, where it is known: large data must not be hashed at each start.

    Raises:
        UserError: arrays of the wrong type or shape, labels out of range, fewer
            than two classes, or no images.
    """

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    transform: Transform | ResizedCrop
    digest: str | None = None

    def __post_init__(self) -> None:
        for text in (self.name, *self.class_names):
            if not isinstance(text, str):
                raise UserError(f"names of data and classes must be text, {text!r} is none")
        if len(self.class_names) < 2:
            raise UserError(f"{self.name}: needs two classes or more, has {len(self.class_names)}")
        for split in ("train", "test"):
            self._check(split, getattr(self, split))
        size, view = self.train.size, self.transform.view(self.train.size)
        if view > size:
            raise UserError(f"{self.name}: a crop of {view} pixels is larger than its {size} px")
        if view != self.test.size:
            sizes = f"{view} and {self.test.size} pixels"
            raise UserError(
                f"{self.name}: views of train images and test images differ in size ({sizes})"
            )

    def __repr__(self) -> str:
        return f"<Data {self.name}: {len(self.train)} training, {len(self.test)} test images>"

    def _check(self, split: str, part: ImageSet) -> None:
        where = f"{self.name}: {split}"
        shape = part.images.shape
        if part.images.dtype != np.uint8:
            raise UserError(f"{where} images must be uint8, are {part.images.dtype}")
        if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
            raise UserError(f"{where} images must be square [N, H, W, 3], are {list(shape)}")
        if part.classes != len(self.class_names):
            names = len(self.class_names)
            raise UserError(f"{where} has {part.classes} classes and {names} class names")
        if len(part) == 0:
            raise UserError(f"{where} has no images")
        if part.labels.dtype != np.int64 or part.labels.shape != shape[:1]:
            got = f"{part.labels.dtype} {list(part.labels.shape)}"
            raise UserError(f"{where} labels must be int64 [{shape[0]}], are {got}")
        low, high = int(part.labels.min()), int(part.labels.max())
        if low < 0 or high >= len(self.class_names):
            limit = len(self.class_names) - 1
            raise UserError(f"{where} labels must lie in 0..{limit}, span {low}..{high}")

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over both splits, their labels and the class names."""
        if self.digest is not None:
            return self.digest
        text = "\n".join([self.train.digest(), self.test.digest(), *self.class_names])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Budget:
    """What a method promises about `poison - clean`, per image, after rounding to 8 bits.

    Attributes:
        norm: `linf` bounds each value, `l2` the Euclidean norm of the image's change before it is
            rounded to 8 bits: rounding may add half a level a value, and at most doubles it; `l0`
            bounds the number of changed pixels; `none` bounds nothing.
        radius: the bound: a `Radius` for `linf`; a number in units of the pixel range for `l2`; a
            number of pixels for `l0`; None for `none`.

    Raises:
        UserError: another norm, or a radius that is not of its kind.
    """

    norm: Literal["linf", "l2", "l0", "none"]
    radius: Radius | float | None = None

    def __post_init__(self) -> None:
        norms = get_args(type(self).__annotations__["norm"])
        if self.norm not in norms:
            raise unknown("norm of a budget", str(self.norm), norms)
        if self.norm == "none":
            if self.radius is not None:
                raise UserError(f"Budget('none', {self.radius!r}): without a bound, no radius")
            return
        if self.norm == "linf":
            if not isinstance(self.radius, Radius):
                raise UserError(f"Budget('linf', {self.radius}): write Radius('8/255')")
            return
        radius = math.nan if self.radius is None else _number(self.radius)
        whole = self.norm == "l0"
        if not 0 <= radius < math.inf or (whole and radius != int(radius)):
            kind = "a whole number of pixels" if whole else "a number"
            raise UserError(f"Budget({self.norm!r}, {self.radius!r}): the radius is {kind} from 0")
        object.__setattr__(self, "radius", radius)

    def excess(self, clean: Pixels, poison: Pixels) -> str | None:
        """Return how the poison breaks the promise, in words, or None if it keeps it."""
        if self.norm == "none":
            return None
        worst, worst_image = 0.0, 0
        for start in range(0, len(clean), 4096):
            part = slice(start, start + 4096)
            change = poison[part].astype(np.int16) - clean[part].astype(np.int16)
            size = self._sizes(change)
            if size.max() > worst:
                worst, worst_image = float(size.max()), start + int(size.argmax())
        if isinstance(self.radius, Radius):
            limit, slack = float(self.radius.levels), 0.0
        elif self.norm == "l0":
            limit, slack = _number(self.radius), 0.0
        else:
            limit = 255 * _number(self.radius)
            slack = min(limit, 0.5 * float(np.sqrt(clean[0].size)))
        if worst <= limit + slack:
            return None
        unit = " pixels" if self.norm == "l0" else "/255"
        return f"{self.norm} {worst:g}{unit} at image {worst_image}, promised {limit:g}{unit}"

    def _sizes(self, change: NDArray[np.int16]) -> NDArray[np.float64]:
        """Return the size of each image's change [N, H, W, 3] in this norm, in 8-bit levels."""
        if self.norm == "l0":
            changed: NDArray[np.float64] = (change != 0).any(3).sum((1, 2)).astype(np.float64)
            return changed
        flat = change.reshape(len(change), -1).astype(np.float64)
        if self.norm == "linf":
            largest: NDArray[np.float64] = np.abs(flat).max(1)
            return largest
        lengths: NDArray[np.float64] = np.sqrt((flat**2).sum(1))
        return lengths


@dataclass(frozen=True, eq=False)
class Poison:
    """What an attack returns.

    Attributes:
        images: uint8 [N, H, W, 3], in the order of the clean images.
        budget: what the method promises about the change.
        notes: facts about the generation worth keeping ("rounds": 10), for the record.

    Raises:
        UserError: a note that is no finite number.
    """

    images: Pixels
    budget: Budget
    notes: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", {n: _finite(n, v) for n, v in self.notes.items()})

    @classmethod
    def from_noise(
        cls,
        clean: ImageSet,
        noise: Any,
        rho_u: Radius,
        notes: Mapping[str, float] = {},
    ) -> "Poison":
        """Return the clean images with noise inside an L-infinity ball.

        Args:
            clean: the training set.
            noise: in units of 1/255: a torch tensor [N, 3, H, W], on any device, or a numpy array
                [N, H, W, 3].
            rho_u: radius of the ball, the promised budget.
            notes: facts about the generation for the record.

        Raises:
            UserError: noise of another shape, NaN or infinite.
        """
        if hasattr(noise, "permute"):
            noise = noise.permute(0, 2, 3, 1).cpu().numpy()
        if noise.shape != clean.images.shape:
            shapes = f"{list(noise.shape)}, the images are {list(clean.images.shape)}"
            raise UserError(f"the noise is {shapes}; give one noise for each image")
        return cls(add_noise(clean.images, noise, rho_u), Budget("linf", rho_u), dict(notes))


def _finite(name: str, value: SupportsFloat) -> float:
    number = _number(value)
    if not math.isfinite(number):
        raise UserError(f"the poison's note {name!r} is {value!r}; notes are finite numbers")
    return number


def _number(value: Any) -> float:
    """Return a number, also one of numpy or torch; NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def add_noise(clean: Pixels, noise: NDArray[np.floating], radius: Radius) -> Pixels:
    """Add noise to 8-bit images and stay inside an L-infinity ball after rounding.

    Args:
        clean: uint8 [N, H, W, 3].
        noise: [N, H, W, 3] in units of 1/255.
        radius: rho_u; rounding never exceeds its whole levels.

    Returns:
        uint8 [N, H, W, 3]: clip(clean + round(noise), 0, 255).

    Raises:
        UserError: noise that is NaN or infinite; names the image.
    """
    finite = np.isfinite(noise).all(axis=(1, 2, 3))
    if not finite.all():
        raise UserError(f"the noise of image {int(finite.argmin())} is NaN or infinite")
    levels = np.clip(np.rint(noise), -radius.levels, radius.levels).astype(np.int16)
    poisoned: Pixels = np.clip(clean.astype(np.int16) + levels, 0, 255).astype(np.uint8)
    return poisoned
