"""Changes of colour on batches, with a strength for each image; differentiable.

Batches are float [B, 3, H, W] in [0, 1]; factors and shifts are float [B]. All equal torchvision's
operations of the same name.
"""

import torch
from torch import Tensor

from unlearnable_bench.harness.gradient import clamp_unit


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Return factor * x."""
    return clamp_unit(_each(factor) * x)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Return factor * x + (1 - factor) * the grey image."""
    return blend(x, _grey(x), factor)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Return factor * x + (1 - factor) * the image's mean grey."""
    return blend(x, _grey(x).mean((1, 2, 3), keepdim=True), factor)


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of each image by a share of the circle, -0.5 to 0.5."""
    value, lowest = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = value - lowest
    red, green, blue = x[:, :1], x[:, 1:2], x[:, 2:]
    safe = torch.where(chroma == 0, 1, chroma)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sector = sector + 6 * _each(shift)
    # Each channel is the value, less the chroma times a trapezoid around the opposite hue.
    place = (torch.arange(5, 0, -2, device=x.device)[:, None, None] + sector) % 6
    return value - chroma * clamp_unit(torch.minimum(place, 4 - place))


def blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return factor * x + (1 - factor) * other, clipped to [0, 1]."""
    return clamp_unit(_each(factor) * x + _each(1 - factor) * other)


def grey(x: Tensor) -> Tensor:
    """Return the luma in three channels."""
    return _grey(x).expand_as(x)


def _grey(x: Tensor) -> Tensor:
    return 0.2989 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]


def _each(values: Tensor) -> Tensor:
    """Reshape [B] to [B, 1, 1, 1]."""
    return values[:, None, None, None]
