"""Cutout."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unlearnable_bench import Defense, Random, option


@dataclass(frozen=True, kw_only=True)
class Cutout(Defense):
    """Cutout: set a square at a random position of each training image to black.

    [DeVries and Taylor 2017](https://arxiv.org/abs/1708.04552), with their size for 32 px. The
    square is black as in the code of EM, ISS and APBench.
    """

    needs = "nothing"

    size: int = option(16, "side of the square in pixels", minimum=1)

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Draw the centre uniformly in the image, so that borders may clip the square."""
        rows = random.integers(x.shape[2], len(x))
        columns = random.integers(x.shape[3], len(x))
        return cutout(x, rows, columns, self.size), y


def cutout(x: Tensor, rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """Set a square of each image to 0.

    Args:
        x: images, float [B, 3, H, W].
        rows: row of each centre, int64 [B]; the square starts at row - size // 2.
        columns: column of each centre, int64 [B].
        size: side of the square in pixels.

    Returns:
        The images, float [B, 3, H, W].
    """
    inside = (
        _span(rows, size, x.shape[2])[:, :, None] & _span(columns, size, x.shape[3])[:, None, :]
    )
    return torch.where(inside[:, None], 0, x)


def _span(centre: Tensor, size: int, length: int) -> Tensor:
    first = centre[:, None] - size // 2
    at = torch.arange(length, device=centre.device)
    return (at >= first) & (at < first + size)
