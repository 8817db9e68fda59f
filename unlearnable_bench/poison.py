"""Poisons, and the budgets that bound their noise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsFloat, get_args

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.images import ImageSet, Pixels, blocks, chunks, on_threads
from unlearnable_bench.radius import Radius


@dataclass(frozen=True)
class Budget:
    """The bound on `poison - clean` that a method promises for each image.

    Attributes:
        norm: `linf` bounds the change of each value in 8 bits. `l2` bounds the Euclidean norm of
            the change of an image before its conversion to 8 bits, which may add a level to each
            value (truncation; rounding adds half a level), but at most doubles the norm. `l0`
            bounds the number of changed pixels. `none` has no bound.
        radius: a `Radius` for `linf`, a number in units of the pixel range for `l2`, a number of
            pixels for `l0`, None for `none`.

    Raises:
        UserError: an unknown norm, or a radius of another kind.

    Examples:
        >>> import numpy as np
        >>> from unlearnable_bench import Budget, Radius
        >>> clean = np.zeros((2, 4, 4, 3), np.uint8)
        >>> poison = clean.copy()
        >>> poison[1, 0, 0] = 10
        >>> Budget("linf", Radius("8/255")).excess(clean, poison)
        'linf 10/255 at image 1, promised 8/255'
        >>> print(Budget("l2", 0.1).excess(clean, poison))  # 10 sqrt(3) / 255 = 0.07
        None
        >>> Budget("l0", 0).excess(clean, poison)
        'l0 1 pixel at image 1, promised 0 pixels'
        >>> print(Budget("none").excess(clean, poison))
        None
    """

    norm: Literal["linf", "l2", "l0", "none"]
    radius: Radius | float | None = None

    def __post_init__(self) -> None:
        norms = get_args(type(self).__annotations__["norm"])
        if self.norm not in norms:
            raise unknown("norm of a budget", str(self.norm), norms)
        if self.norm == "none":
            if self.radius is not None:
                raise UserError(
                    f"Budget('none', {self.radius!r}): without a bound, no radius: Budget('none')"
                )
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
        """Return how a poison exceeds the budget, as text, or None if it does not.

        Args:
            clean: the clean images, uint8 [N, H, W, 3].
            poison: the poisoned images, uint8 [N, H, W, 3].
        """
        if self.norm == "none":
            return None

        def largest(part: slice) -> tuple[float, int]:
            size = self._sizes(change_of(clean[part], poison[part]))
            return float(size.max()), part.start + int(size.argmax())

        worst, worst_image = 0.0, 0
        for size, image in on_threads(largest, blocks(clean)):
            if size > worst:
                worst, worst_image = size, image
        if isinstance(self.radius, Radius):
            limit, slack = float(self.radius.levels), 0.0
        elif self.norm == "l0":
            limit, slack = _number(self.radius), 0.0
        else:
            limit = 255 * _number(self.radius)
            slack = min(limit, float(np.sqrt(clean[0].size))) + 1e-9 * limit  # of floats
        if worst <= limit + slack:
            return None
        found, promised = (self._text(size) for size in (worst, limit))
        return f"{self.norm} {found} at image {worst_image}, promised {promised}"

    def _text(self, size: float) -> str:
        """Return a size with its unit."""
        if self.norm != "l0":
            return f"{size:g}/255"
        return f"{size:g} pixel{'' if size == 1 else 's'}"

    def _sizes(self, change: Pixels) -> NDArray[np.float64]:
        """Return the norm of each image's change, uint8 [N, H, W, 3], in 8-bit levels or pixels."""
        if self.norm == "l0":
            changed: NDArray[np.float64] = change.any(3).sum((1, 2)).astype(np.float64)
            return changed
        if self.norm == "linf":
            highest: NDArray[np.float64] = change.reshape(len(change), -1).max(1).astype(np.float64)
            return highest
        euclidean: NDArray[np.float64] = np.sqrt(sums_of_squares(change))
        return euclidean


def change_of(clean: Pixels, poison: Pixels) -> Pixels:
    """Return how far each value has changed, uint8 [N, H, W, 3], without its direction."""
    change: Pixels = np.maximum(clean, poison) - np.minimum(clean, poison)
    return change


def sums_of_squares(change: Pixels) -> NDArray[np.float64]:
    """Return the sum of squares of each image's change, float64 [N]; exact."""
    flat = change.reshape(len(change), -1).astype(np.float64)
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", flat, flat)
    return squares


@dataclass(frozen=True, eq=False)
class Poison:
    """Poisoned images, the return value of an attack.

    Attributes:
        images: the poisoned images, uint8 [N, H, W, 3], in the order of the clean images.
        budget: the bound on their change.
        notes: numbers about the generation for the record, such as {"rounds": 10}.

    Raises:
        UserError: a note that is not a finite number.

    Examples:
        >>> import numpy as np
        >>> from unlearnable_bench import Budget, Poison
        >>> clean = np.full((2, 4, 4, 3), 128, np.uint8)
        >>> one_pixel = clean.copy()
        >>> one_pixel[:, 0, 0] = 255
        >>> poison = Poison(one_pixel, Budget("l0", 1), {"pixels": 1})
        >>> print(poison.budget.excess(clean, poison.images))
        None
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
        """Return the clean images plus noise, clipped to an L-infinity ball and to 8 bits.

        Args:
            clean: the clean training set.
            noise: noise in units of 1/255: a torch tensor [N, 3, H, W] on any device, or a numpy
                array [N, H, W, 3].
            rho_u: radius of the ball, which becomes the budget.
            notes: numbers about the generation for the record.

        Raises:
            UserError: noise of another shape, or with NaN or infinite values.

        Examples:
            >>> import numpy as np
            >>> import torch
            >>> from unlearnable_bench import ImageSet, Poison, Radius
            >>> clean = ImageSet(np.full((2, 4, 4, 3), 250, np.uint8), np.array([0, 1]), classes=2)
            >>> noise = torch.zeros(2, 3, 4, 4)
            >>> noise[0] = 3.4
            >>> noise[1] = -100
            >>> poison = Poison.from_noise(clean, noise, Radius("8/255"))
            >>> poison.images[:, 0, 0, 0].tolist(), str(poison.budget.radius)
            ([253, 242], '8/255')
        """
        count, height, width, channels = clean.images.shape
        tensor = hasattr(noise, "permute")
        wanted = [count, channels, height, width] if tensor else [count, height, width, channels]
        shape = list(getattr(noise, "shape", ()))
        if shape != wanted:
            got = shape or type(noise).__name__
            kind = "a torch tensor" if tensor else "an array"
            raise UserError(f"the noise is {got}; {kind} must be {wanted}, one noise per image")
        if not isinstance(rho_u, Radius):
            raise UserError(f"rho_u is {rho_u!r}; write Radius('8/255')")
        poisoned = np.empty_like(clean.images)
        for part in chunks(clean.images):
            block = _channels_last(noise[part]) if tensor else noise[part]
            _add(clean.images[part], block, rho_u, poisoned[part], part.start)
        return cls(poisoned, Budget("linf", rho_u), dict(notes))


def _channels_last(noise: Any) -> NDArray[np.floating]:
    """Return a torch tensor [B, 3, H, W] on any device as an array [B, H, W, 3]."""
    short = noise.is_floating_point() and noise.element_size() < 4  # no type of numpy
    noise = noise.detach().float() if short else noise.detach()
    found: NDArray[np.floating] = noise.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return found


def _finite(name: str, value: SupportsFloat) -> float:
    number = _number(value)
    if not math.isfinite(number):
        raise UserError(f"the poison's note {name!r} is {value!r}; notes are finite numbers")
    return number


def _number(value: Any) -> float:
    """Return a number of Python, numpy or torch as a float, and NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def add_noise(clean: Pixels, noise: NDArray[np.floating], radius: Radius) -> Pixels:
    """Add noise to 8-bit images inside an L-infinity ball.

    poison = clip(clean + clip(round(noise), -k, k), 0, 255) with k = floor(255 radius).

    Args:
        clean: images, uint8 [N, H, W, 3].
        noise: noise in units of 1/255, [N, H, W, 3].
        radius: rho_u, the radius of the ball.

    Returns:
        The poisoned images, uint8 [N, H, W, 3].

    Raises:
        UserError: noise that is NaN or infinite; the message names the image.

    Examples:
        >>> import numpy as np
        >>> from unlearnable_bench import Radius, add_noise
        >>> clean = np.array([[[[0, 100, 250]]]], np.uint8)
        >>> add_noise(clean, np.array([[[[-3.0, 2.6, 9.0]]]]), Radius("8/255")).tolist()
        [[[[0, 103, 255]]]]
    """
    clean, noise = np.broadcast_arrays(clean, noise)
    poisoned = np.empty(clean.shape, np.uint8)
    _add(clean, noise, radius, poisoned)
    return poisoned


def _add(
    clean: Pixels, noise: NDArray[np.floating], radius: Radius, poisoned: Pixels, first: int = 0
) -> None:
    """Write clean images plus noise into `poisoned`; the first image has the index `first`."""

    def add(part: slice) -> None:
        levels = _levels(noise[part], radius.levels, first + part.start)
        levels += clean[part]
        np.clip(levels, 0, 255, out=levels)
        np.copyto(poisoned[part], levels, casting="unsafe")

    on_threads(add, blocks(clean))


def _levels(noise: NDArray[Any], largest: int, first: int) -> NDArray[np.int16]:
    """Return noise rounded to whole levels and clipped, int16, as an array of its own."""
    if noise.dtype.kind in "iu":  # rounding would make floats of it
        if noise.dtype.itemsize == 1:
            noise = noise.astype(np.int16)
        lowest = 0 if noise.dtype.kind == "u" else -largest
        whole: NDArray[np.int16] = np.clip(noise, lowest, largest).astype(np.int16, copy=False)
        return whole
    finite = np.isfinite(noise).all(axis=(1, 2, 3))
    if not finite.all():
        raise UserError(f"the noise of image {first + int(finite.argmin())} is NaN or infinite")
    rounded: NDArray[np.int16] = np.clip(np.rint(noise), -largest, largest).astype(np.int16)
    return rounded
