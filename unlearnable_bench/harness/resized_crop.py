"""Boxes of a whole batch scaled to one size, with the exact adjoint as its backward pass.

A box is scaled by two small matrices for each image, out = R_y @ x @ R_x^T, so that
its adjoint is two products too: repeatable, where scattered sums would race.
"""

import math
from typing import Any

import torch
from torch import Tensor

from unlearnable_bench.harness.acceleration import fused
from unlearnable_bench.harness.randomness import Random

_TRIES = 10
_LARGEST_RATIO = 4 / 3


def random_boxes(count: int, size: int, area: float, random: Random) -> Tensor:
    """Draw a box in each of `count` square images, as torchvision's RandomResizedCrop does.

    Its area is uniform from `area` to 1 of the image's, the logarithm of width over
    height uniform from 3/4 to 4/3; the first of ten draws that fits is taken, or the
    whole image where none does. Its place is uniform.

    Args:
        count: number of images.
        size: their height and width.
        area: smallest share of the image.
        random: where the draws come from.

    Returns:
        int64 [count, 4]: top, left, height, width.
    """
    bound = math.log(_LARGEST_RATIO)
    areas = random.uniform(_TRIES, count, low=area, high=1.0)
    ratios = random.uniform(_TRIES, count, low=-bound, high=bound)
    return _boxes(areas, ratios, random.uniform(2, count), size)


@fused
def _boxes(areas: Tensor, ratios: Tensor, places: Tensor, size: int) -> Tensor:
    # In float64, since an index must not be rounded up to the number of places.
    areas, ratios = areas.double() * size**2, ratios.double().exp()
    sides = torch.stack([areas / ratios, areas * ratios]).sqrt().round()
    fits = ((sides > 0) & (sides <= size)).all(0)
    first = fits.int().argmax(0).expand(2, 1, -1)
    chosen = torch.where(fits.any(0), sides.gather(1, first)[:, 0], size)
    corners = (places.double() * (size - chosen + 1)).floor()
    return torch.cat([corners, chosen]).T.long()


def resized_crop(x: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Scale a box of each image, bilinear with antialiasing, and mirror it where `flip`.

    Torchvision's resized_crop(antialias=True), then horizontal_flip. Differentiable in `x`.

    Args:
        x: float [B, C, H, W].
        boxes: int64 [B, 4]: top, left, height, width; inside the images.
        flip: bool [B].
        size: height and width of the result.

    Returns:
        float [B, C, size, size].
    """
    result: Tensor = _ResizedCrop.apply(x, boxes, flip, size)
    return result


class _ResizedCrop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(boxes, flip)
        ctx.shape = x.shape[2:]
        return _forward(x, boxes, flip, size)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _adjoint(grads[0], *ctx.saved_tensors, *ctx.shape), None, None, None


@fused
def _forward(x: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    rows, columns = _matrices(boxes, flip, x.shape[2], x.shape[3], size, x.dtype)
    return rows @ x @ columns.mT


@fused
def _adjoint(g: Tensor, boxes: Tensor, flip: Tensor, height: int, width: int) -> Tensor:
    rows, columns = _matrices(boxes, flip, height, width, g.shape[2], g.dtype)
    return rows.mT @ g @ columns


def _matrices(
    boxes: Tensor, flip: Tensor, height: int, width: int, size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return R_y [B, 1, size, height] and R_x [B, 1, size, width]."""
    top, left, box_height, box_width = boxes.T
    rows = _weights(top, box_height, height, size)
    columns = _weights(left, box_width, width, size)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    return rows[:, None].to(dtype), columns[:, None].to(dtype)


def _weights(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Return the share [B, size, side] that each pixel of a side has in each of the result.

    A triangle around the result's place, as wide as one pixel of the box or of the
    result, whichever is larger; cut at the box's edges, and summing to 1. In whole
    numbers up to the last line, in units of half a pixel of both: what does not count
    is exactly 0, on every device.
    """
    pixels = torch.arange(side, device=start.device)
    places = torch.arange(size, device=start.device)[:, None]
    start, length = start[:, None, None], length[:, None, None]
    distance = (size * (2 * (pixels - start) + 1) - length * (2 * places + 1)).abs()
    inside = (pixels >= start) & (pixels < start + length)
    weights = torch.where(inside, (2 * length.clamp(min=size) - distance).clamp(min=0), 0)
    return weights.double() / weights.sum(2, keepdim=True)
