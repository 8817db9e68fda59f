"""Additive noise of each class: drawn or read from a poison, and added to images."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import ImageSet, Radius, add_noise
from unlearnable_bench.images import Pixels, blocks, chunks


def with_patterns(images: ImageSet, patterns: NDArray[Any], rho_u: Radius) -> Pixels:
    """Return images plus the pattern of their class, uint8 [N, H, W, 3].

    Args:
        images: the images.
        patterns: a pattern for each class in units of 1/255, [classes, H, W, 3].
        rho_u: radius of the noise.
    """
    poisoned = np.empty_like(images.images)
    for part in chunks(images.images):
        poisoned[part] = add_noise(images.images[part], patterns[images.labels[part]], rho_u)
    return poisoned


def adding_class_noise(images: ImageSet, poisoned: Pixels) -> Callable[[ImageSet], Pixels]:
    """Return the addition of the noise of each class to images of the same classes.

    Clipping to [0, 255] can only shrink a change, so that the largest one among the images of a
    class is its noise.

    Args:
        images: the clean training set, uint8 [N, H, W, 3].
        poisoned: clip(x + n_y, 0, 255) for its images, uint8 [N, H, W, 3].
    """
    noise = np.zeros((images.classes, *images.images.shape[1:]), np.int16)
    for part in blocks(images.images):
        change = poisoned[part].astype(np.int16) - images.images[part]
        for label in np.unique(images.labels[part]):
            own = change[images.labels[part] == label]
            largest = np.take_along_axis(own, np.abs(own).argmax(0)[None], 0)[0]
            larger = np.abs(largest) > np.abs(noise[label])
            noise[label][larger] = largest[larger]

    def add(others: ImageSet) -> Pixels:
        found = np.empty_like(others.images)
        for part in blocks(others.images):
            moved = others.images[part].astype(np.int16) + noise[others.labels[part]]
            found[part] = np.clip(moved, 0, 255)
        return found

    return add
