"""Normalisation of each channel of each image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import Defense, Harness, ImageSet, option
from unlearnable_bench.defenses.preparation import per_image
from unlearnable_bench.images import Pixels


@dataclass(frozen=True, kw_only=True)
class ChannelNormalisation(Defense):
    """Give each channel of each training image the same mean and standard deviation.

    v' = 127.5 + 255 std (v - mean) / deviation, rounded and clipped to 8 bits; a constant channel
    becomes grey. One of the adaptive defenses of DUNE
    ([arXiv 2605.01718](https://arxiv.org/abs/2605.01718)).
    """

    needs = "nothing"

    std: float = option(
        0.25, "standard deviation of a channel in units of the pixel range", minimum=0
    )

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Normalise each channel of each image by its own mean and standard deviation."""
        return per_image(images, self._normalised)

    def _normalised(self, image: Pixels) -> NDArray[np.float64]:
        change = image - image.mean((0, 1))
        deviation = image.std((0, 1))
        change *= 255 * self.std / np.where(deviation > 0, deviation, 1)
        levels: NDArray[np.float64] = np.clip(np.rint(127.5 + change), 0, 255)
        return levels
