"""Normalisation of each channel of each image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import Defense, Harness, ImageSet
from unlearnable_bench.defenses.preparation import per_image
from unlearnable_bench.images import Pixels


@dataclass(frozen=True, kw_only=True)
class ChannelNormalisation(Defense):
    """Give each channel of each training image the same mean and standard deviation.

    An image's channels are standardised; then its least value becomes 0 and its largest 255,
    truncated to 8 bits. One of the adaptive defenses of DUNE
    ([arXiv 2605.01718](https://arxiv.org/abs/2605.01718)).
    """

    # Version 1 gave all images the same standard deviation; in version 2, the largest value of an
    # image could become 254.
    version: ClassVar[str] = "3"

    needs = "nothing"

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Normalise each channel of each image by its own mean and standard deviation."""
        return per_image(images, _normalised)


def _normalised(image: Pixels) -> NDArray[np.uint8]:
    deviation = image.std((0, 1))
    values = (image - image.mean((0, 1))) / np.where(deviation > 0, deviation, 1)
    values -= values.min()
    levels: NDArray[np.uint8] = (values / max(values.max(), 1e-6) * 255).astype(np.uint8)
    return levels
