"""COIN."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from unlearnable_bench import Defense, Random, option


@dataclass(frozen=True, kw_only=True)
class COIN(Defense):
    """COIN: move each pixel of each training image by a random displacement, against CUDA.

    A pixel takes the bilinear value at (y + dy, x + dx), with dy, dx ~ U(-alpha, alpha) drawn for
    each pixel and equal in all channels; positions wrap around, so that opposite borders coincide
    (AAAI 2025, [arXiv 2311.18403](https://arxiv.org/abs/2311.18403)).
    """

    version: ClassVar[str] = "2"  # in version 1, opposite borders were neighbours

    needs = "nothing"

    alpha: float = option(
        2.0, "largest displacement of a pixel along each axis, in pixels", minimum=0
    )

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Draw the displacements and interpolate."""
        shape = (2, len(x), *x.shape[2:])
        return displace(x, random.uniform(*shape, low=-self.alpha, high=self.alpha)), y


def displace(x: Tensor, by: Tensor) -> Tensor:
    """Return each pixel's bilinear value at its displaced position, which wraps around.

    As `scipy.ndimage.map_coordinates` with mode `wrap`: the first and the last pixel coincide.

    Args:
        x: images, float [B, C, H, W].
        by: displacements dy and dx in pixels, float [2, B, H, W].

    Returns:
        The images, float [B, C, H, W].
    """
    height, width = x.shape[2:]
    top, dy = _wrapped(torch.arange(height, device=x.device)[:, None], by[0], height - 1)
    left, dx = _wrapped(torch.arange(width, device=x.device), by[1], width - 1)
    dy, dx = dy.to(x.dtype), dx.to(x.dtype)
    rows = torch.stack([top, top, top + 1, top + 1], 1)
    columns = torch.stack([left, left + 1, left, left + 1], 1)
    weights = torch.stack([(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx], 1)
    # One gather of the four neighbours of all pixels.
    index = (rows * width + columns).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    neighbours = x.flatten(2).gather(2, index).unflatten(2, (4, height, width))
    found: Tensor = (neighbours * weights[:, None]).sum(2)
    return found


def _wrapped(start: Tensor, by: Tensor, period: int) -> tuple[Tensor, Tensor]:
    """Return the whole part of positions between 0 and the period, below it, and the rest."""
    whole = by.floor()
    rest = by - whole
    place = start + whole.long()
    # Displacements keep their digits, since only whole numbers are added and wrapped.
    inside = (place >= 0) & ((place < period) | ((place == period) & (rest == 0)))
    place = torch.where(inside, place, place % period)
    last = place == period  # at the border itself: the neighbour before it, and all of the way
    return place - last.long(), rest + last
