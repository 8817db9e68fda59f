"""Image operations of RandAugment on batches, with a magnitude for each image.

Batches are float [B, 3, H, W] in [0, 1] with H = W; magnitudes are float [B]. Operations that
Pillow defines on 8-bit levels (posterize, equalize) round to those levels first. Nothing
depends on a value on the host, so that a CUDA graph can capture the operations.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench.harness.colours import blend, brightness, contrast, saturation

OPERATIONS = (
    "identity",
    "saturation",
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
    "rotate",
    "brightness",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)


class Ranges(NamedTuple):
    """The strength of each operation at magnitude 1; the defaults are RandAugment's.

    Attributes:
        shear: pixels sideways for each pixel down.
        translate: share of the image's side.
        rotate: angle in degrees.
        enhance: difference from 1 of the factors of brightness, contrast, saturation, sharpness.
        bits: number of bits that posterize leaves, at magnitude 0 and at magnitude 1; clamped
            to 1 or more.
    """

    shear: float = 0.3
    translate: float = 150 / 331
    rotate: float = 30.0
    enhance: float = 0.9
    bits: tuple[int, int] = (8, 4)


def apply(x: Tensor, choice: Tensor, magnitude: Tensor, sign: Tensor, ranges: Ranges) -> Tensor:
    """Apply the chosen operation to each image.

    All operations are computed for all images, and one result is selected for each, because a
    CUDA graph has no branches.

    Args:
        x: the batch, float [B, 3, H, W] in [0, 1].
        choice: index in `OPERATIONS`, int64 [B].
        magnitude: magnitude, float [B] in [0, 1].
        sign: direction of shifts, rotations and factors, float [B], 1 or -1.
        ranges: strengths at magnitude 1.

    Returns:
        The images, float [B, 3, H, W] in [0, 1].
    """
    signed = magnitude * sign
    factor = 1 + ranges.enhance * signed
    most, least = ranges.bits
    results = {
        "saturation": saturation(x, factor),
        "brightness": brightness(x, factor),
        "contrast": contrast(x, factor),
        "sharpness": sharpness(x, factor),
        "posterize": posterize(x, (most + (least - most) * magnitude).round().clamp(1, 8)),
        "solarize": solarize(x, 1 - magnitude),
        "autocontrast": autocontrast(x),
        "equalize": equalize(x),
    }
    warped = _warp_chosen(x, choice, signed, ranges)
    results |= dict.fromkeys(OPERATIONS[2:7], warped)
    selected = x
    for name, result in results.items():
        selected = torch.where(_each(choice == OPERATIONS.index(name)), result, selected)
    return selected


def _warp_chosen(x: Tensor, choice: Tensor, signed: Tensor, ranges: Ranges) -> Tensor:
    """Shear, shift or rotate each image as chosen, with a single resampling of the batch."""

    def strength(name: str, unit: float) -> Tensor:
        return torch.where(choice == OPERATIONS.index(name), unit * signed, 0)

    side = x.shape[3]
    return warp(
        x,
        shear_x=strength("shear-x", ranges.shear),
        shear_y=strength("shear-y", ranges.shear),
        # Whole pixels, as in torchvision, so that a shift does not blur.
        shift_x=strength("translate-x", ranges.translate * side).trunc(),
        shift_y=strength("translate-y", ranges.translate * side).trunc(),
        angle=strength("rotate", math.radians(ranges.rotate)),
    )


def warp(
    x: Tensor, *, shear_x: Tensor, shear_y: Tensor, shift_x: Tensor, shift_y: Tensor, angle: Tensor
) -> Tensor:
    """Shear about the upper left corner, shift, or rotate about the centre; black outside.

    Bilinear resampling. An image is either rotated, or sheared and shifted; of the two shears one
    is 0.

    Args:
        x: the batch, float [B, 3, H, W].
        shear_x: float [B], pixels to the left for each pixel down.
        shear_y: float [B], pixels up for each pixel to the right.
        shift_x: float [B], pixels to the right.
        shift_y: float [B], pixels down.
        angle: float [B], radians, counterclockwise.
    """
    side = x.shape[3]
    # Coordinates run from -1 at the left edge of the image to 1 at its right edge.
    coordinates = (2 * torch.arange(side, device=x.device, dtype=x.dtype) + 1) / side - 1
    across, down = coordinates[None, None, :], coordinates[None, :, None]
    shear_x, shear_y, shift_x, shift_y, cos, sin = (
        values[:, None, None]
        for values in (shear_x, shear_y, shift_x, shift_y, angle.cos(), angle.sin())
    )
    from_x = cos * across - sin * down + shear_x * (down + 1) - 2 * shift_x / side
    from_y = sin * across + cos * down + shear_y * (across + 1) - 2 * shift_y / side
    grid = torch.stack([from_x, from_y], 3).to(x.dtype)
    return functional.grid_sample(x, grid, align_corners=False).clamp(0, 1)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Return factor * x + (1 - factor) * a smoothed image.

    The 3x3 window has weight 5/13 at the centre and 1/13 elsewhere; borders are not smoothed.
    """
    inner = x[:, :, 1:-1, 1:-1]
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = (9 * functional.avg_pool2d(x, 3, stride=1) + 4 * inner) / 13
    return blend(x, smooth, factor)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each 8-bit value."""
    step = _each(torch.exp2(8 - bits))
    return torch.div(_levels(x), step, rounding_mode="floor") * step / 255


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above the threshold."""
    return torch.where(x >= _each(threshold), 1 - x, x)


def autocontrast(x: Tensor) -> Tensor:
    """Stretch each channel to [0, 1]; a constant channel does not change."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    flat = high == low
    return torch.where(flat, x, (x - low) / torch.where(flat, 1, high - low)).clamp(0, 1)


def equalize(x: Tensor) -> Tensor:
    """Equalize the histogram of each channel's 8-bit values by Pillow's integer rule."""
    values = _levels(x).long().flatten(0, 1).flatten(1)
    histogram = torch.zeros(len(values), 256, dtype=torch.int64, device=x.device)
    histogram = histogram.scatter_add(1, values, torch.ones_like(values))
    brightest = histogram.gather(1, values.amax(1, keepdim=True))
    step = (values.shape[1] - brightest) // 255
    before = histogram.cumsum(1) - histogram
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    equalized = torch.where(step > 0, table.gather(1, values), values)
    return (equalized.to(x.dtype) / 255).view_as(x)


def _levels(x: Tensor) -> Tensor:
    return (255 * x).round()


def _each(values: Tensor) -> Tensor:
    """Reshape [B] to [B, 1, 1, 1]."""
    return values[:, None, None, None]
