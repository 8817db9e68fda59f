"""Shifts of images by fractions of a pixel."""

import torch
from torch import Tensor

from unlearnable_bench.harness import Random, crop_flip


def shifted(x: Tensor, random: Random, *, mirrors: bool) -> Tensor:
    """Return images shifted by up to an eighth of their size, bilinearly, black outside.

    Args:
        x: images, float [B, 3, H, W].
        random: stream of the draws.
        mirrors: whether each image is mirrored first with probability 1/2.
    """
    reach, count = x.shape[3] / 8, len(x)
    by = random.uniform(2, count, low=-reach, high=reach).to(x.dtype)
    flip = random.integers(2, count) == 1 if mirrors else torch.zeros_like(by[0], dtype=torch.bool)
    whole = by.floor()
    part = by - whole
    corner = whole.long()
    views = torch.zeros_like(x)
    for down in (0, 1):
        for right in (0, 1):
            rows = part[0] if down else 1 - part[0]
            columns = part[1] if right else 1 - part[1]
            view = crop_flip(x, corner[0] + down, corner[1] + right, flip)
            views = views + (rows * columns)[:, None, None, None] * view
    return views
