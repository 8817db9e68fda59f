"""Shared parts of the defenses that change the training images before training."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import ImageSet, UserError
from unlearnable_bench.images import Pixels


def per_image(images: ImageSet, change: Callable[[Pixels], NDArray[Any]]) -> ImageSet:
    """Apply a function to each image; labels and order do not change.

    Args:
        images: the training set, uint8 [N, H, W, 3].
        change: maps uint8 [H, W, 3] to uint8 [H, W, 3], or to [H, W, 1] for equal channels.
    """
    changed = np.empty_like(images.images)
    for index, image in enumerate(images.images):
        changed[index] = change(image)
    return dataclasses.replace(images, images=changed)


def refuse_even(size: int) -> None:
    """Refuse an even window, which has no centre.

    Raises:
        UserError: `size` is even.
    """
    if size % 2 == 0:
        raise UserError(f"size must be odd, got {size}; use {size + 1}")
