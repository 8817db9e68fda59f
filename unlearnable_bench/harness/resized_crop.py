"""Random boxes of a batch, scaled to one size, with the exact adjoint as backward pass.

Each box is scaled by two small matrices, out = R_y @ x @ R_x^T, so that the adjoint is two
matrix products as well, which are deterministic, unlike scattered sums.
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
    """Draw a box in each of `count` square images, like torchvision's RandomResizedCrop.

    The area is uniform from `area` to 1 of the image's area. The aspect ratio is log-uniform
    from 3/4 to 4/3. The first of ten draws that fits is used, or the whole image if none fits.
    The position is uniform.

    Args:
        count: number of images.
        size: height and width of the images in pixels.
        area: smallest share of the image's area, 0 to 1.
        random: stream of the draws.

    Returns:
        Top, left, height and width of each box in pixels, int64 [count, 4].
    """
    bound = math.log(_LARGEST_RATIO)
    areas = random.uniform(_TRIES, count, low=area, high=1.0, images=1)
    ratios = random.uniform(_TRIES, count, low=-bound, high=bound, images=1)
    return _boxes(areas, ratios, random.uniform(2, count, images=1), size)


@fused
def _boxes(areas: Tensor, ratios: Tensor, places: Tensor, size: int) -> Tensor:
    # In float64, so that an index is never rounded up to the number of positions.
    areas, ratios = areas.double() * size**2, ratios.double().exp()
    sides = torch.stack([areas / ratios, areas * ratios]).sqrt().round()
    fits = ((sides > 0) & (sides <= size)).all(0)
    first = fits.int().argmax(0).expand(2, 1, -1)
    chosen = torch.where(fits.any(0), sides.gather(1, first)[:, 0], size)
    corners = (places.double() * (size - chosen + 1)).floor()
    return torch.cat([corners, chosen]).T.long()


def resized_crop(x: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Scale a box of each image, bilinear with antialiasing, and mirror it if `flip` is true.

    Equals torchvision's resized_crop(antialias=True) and horizontal_flip. Differentiable in `x`.

    Args:
        x: images, float [B, C, H, W].
        boxes: top, left, height and width of a box inside each image, int64 [B, 4].
        flip: whether each image is mirrored, bool [B].
        size: height and width of the result in pixels.

    Returns:
        The scaled boxes, float [B, C, size, size].
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
    """Return the weight [B, size, side] of each input pixel in each output pixel of an axis.

    A triangular filter around the output pixel, whose half width is a pixel of the box or of
    the output, whichever is larger; cut at the edges of the box and normalised to sum 1. All is
    computed in integers up to the last line, in units of half a pixel of both, so that zero
    weights are exactly 0 on every device.
    """
    pixels = torch.arange(side, device=start.device)
    outputs = torch.arange(size, device=start.device)[:, None]
    start, length = start[:, None, None], length[:, None, None]
    distance = (size * (2 * (pixels - start) + 1) - length * (2 * outputs + 1)).abs()
    inside = (pixels >= start) & (pixels < start + length)
    weights = torch.where(inside, (2 * length.clamp(min=size) - distance).clamp(min=0), 0)
    return weights.double() / weights.sum(2, keepdim=True)
