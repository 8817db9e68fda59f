"""Noise of all images between the sign steps that start from it."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from unlearnable_bench.harness.memory import level_type, zero_noise
from unlearnable_bench.radius import Radius

LARGE = 8 << 30
"""Bytes of noise as float32 from which on it is stored in whole units of its grid."""

_BLOCK = 1 << 26  # values that are converted at a time


class StoredNoise:
    """Noise of all images, zero at first, which sign steps read and replace.

    Sign steps of one size from 0, with clamps to a ball and to [0, 1], only meet multiples of the
    greatest common divisor of the step, the radius and 1/255. Noise of a large set is stored as
    such whole numbers, in a byte each for the usual steps of 0.8/255: a quarter of float32, and
    nothing is lost but the rounding of sums, which decides only where halves of a level go. Noise
    of a small set keeps its floats, since even a rounding changes which noise a surrogate's
    training finds. The size alone decides, so that results do not depend on the device.

    Args:
        shape: shape of the noise, [N, 3, H, W].
        rho_u: radius of the noise.
        step: size of its steps, in units of the pixel range, above 0; None: it has other values
            than such steps make, and always keeps its floats.
        dtype: type of the steps' arithmetic.
        device: the device.

    Raises:
        UserError: the noise does not fit into the free memory of the device.

    Examples:
        >>> import torch
        >>> from fractions import Fraction
        >>> from unlearnable_bench import Radius
        >>> from unlearnable_bench.harness import StoredNoise
        >>> radius, step = Radius("8/255"), Fraction("0.8") / 255
        >>> noise = StoredNoise((2, 3, 1, 1), radius, step, torch.float32, torch.device("cpu"))
        >>> first = torch.tensor([0])
        >>> noise.put(first, noise.at(first) - 2 * float(step))
        >>> noise.levels()[:, 0, 0, 0].tolist()
        [-2, 0]
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        rho_u: Radius,
        step: Fraction | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._rho_u, self._dtype = rho_u, dtype
        is_large = 4 * math.prod(shape) >= LARGE
        self._unit = None if step is None or not is_large else grid(rho_u, step)
        kind = dtype if self._unit is None else _whole(rho_u, self._unit)
        self.tensor = zero_noise(torch.Size(shape), kind, device)
        """What is stored, for `Harness.keep`."""

    def at(self, index: Tensor) -> Tensor:
        """Return the noise of some images, float [B, 3, H, W], in units of the pixel range."""
        found = self.tensor[index]
        return found if self._unit is None else found.to(self._dtype) * float(self._unit)

    def put(self, index: Tensor, noise: Tensor) -> None:
        """Replace the noise of some images, float [B, 3, H, W]."""
        if self._unit is not None:
            noise = (noise / float(self._unit)).round().to(self.tensor.dtype)
        self.tensor[index] = noise

    def levels(self) -> Tensor:
        """Return all noise in whole units of 1/255, of an integer type; call it last.

        Made a block at a time, of whole numbers in their place: another copy of all noise may not
        fit into the device's memory.
        """
        wide = self._unit is None
        found = (
            torch.empty(self.tensor.shape, dtype=level_type(self._rho_u)) if wide else self.tensor
        )
        unit = 255.0 if self._unit is None else float(255 * self._unit)
        rows = max(1, _BLOCK // max(1, self.tensor[:1].numel()))
        for source, target in zip(self.tensor.split(rows), found.split(rows), strict=True):
            target.copy_((unit * source.to(self._dtype)).round())
        return found


def grid(rho_u: Radius, step: Fraction) -> Fraction | None:
    """Return the unit of which steps, radius and whole levels are multiples; None: it is too small.

    Examples:
        >>> from fractions import Fraction
        >>> from unlearnable_bench import Radius
        >>> 255 * grid(Radius("8/255"), Fraction("0.8") / 255)
        Fraction(1, 5)
    """
    parts = (rho_u.value, step, Fraction(1, 255))
    whole = math.lcm(*(part.denominator for part in parts))
    unit = Fraction(math.gcd(*(int(part * whole) for part in parts)), whole)
    return unit if rho_u.value / unit <= torch.iinfo(torch.int16).max else None


def _whole(rho_u: Radius, unit: Fraction) -> torch.dtype:
    return torch.int8 if rho_u.value / unit <= torch.iinfo(torch.int8).max else torch.int16
