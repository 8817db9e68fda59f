"""Images, noise of radius 8/255 and poisoned images for the tests of arrays from files."""

import numpy as np

from unlearnable_bench.images import ImageSet, Pixels

RANDOM = np.random.default_rng(0)
COUNT, SIZE = 40, 8


def photographs(brightness: float = 1.0) -> ImageSet:
    """Return images of one colour each with some grain, as different as photographs are."""
    colours = RANDOM.uniform(10, 245, (COUNT, 1, 1, 3))
    grain = RANDOM.normal(0, 12, (COUNT, SIZE, SIZE, 3))
    pixels = np.clip(brightness * (colours + grain), 0, 255).astype(np.uint8)
    return ImageSet(pixels, np.arange(COUNT) % 4, 4)


IMAGES = photographs()
NOISE = RANDOM.integers(-8, 9, IMAGES.images.shape)
POISONED: Pixels = np.clip(IMAGES.images.astype(int) + NOISE, 0, 255).astype(np.uint8)
