"""A U-Net from images to noise in [-1, 1]."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class UNet(nn.Module):
    """Four levels of two convolutions each, average pooling, and bilinear steps back up.

    Args:
        width: number of channels of the first level; it doubles with each level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [3] + [width << level for level in range(4)]
        self.down = nn.ModuleList(_twice(*pair) for pair in pairwise(widths))
        self.up = nn.ModuleList(
            _twice(widths[level + 1] + widths[level], widths[level]) for level in (3, 2, 1)
        )
        self.last = nn.Sequential(nn.Conv2d(width, 3, 1), nn.BatchNorm2d(3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Return noise, float [B, 3, H, W] in [-1, 1], for x, float [B, 3, H, W]."""
        levels: list[Tensor] = []
        for block in self.down:
            x = block(functional.avg_pool2d(x, 2) if levels else x)
            levels.append(x)
        for block, skip in zip(self.up, levels[2::-1], strict=True):
            x = block(torch.cat([_enlarged(x, *skip.shape[2:]), skip], 1))
        noise: Tensor = self.last(x)
        return noise


def _twice(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for count in (channels, width):
        layers += [nn.Conv2d(count, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def _enlarged(x: Tensor, height: int, width: int) -> Tensor:
    """Return bilinear enlargement between the corners, by products of matrices.

    Their gradients are deterministic.
    """
    rows, columns = (
        _interpolation(*pair, x) for pair in zip(x.shape[2:], (height, width), strict=True)
    )
    return rows @ x @ columns.T


def _interpolation(size: int, larger: int, like: Tensor) -> Tensor:
    """Return the weights of linear interpolation, [larger, size]."""
    units = torch.eye(size, dtype=like.dtype, device=like.device)[None]
    return functional.interpolate(units, size=larger, mode="linear", align_corners=True)[0].T
