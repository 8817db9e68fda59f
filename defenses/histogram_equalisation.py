"""Histogram equalisation."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import Defense, Harness, ImageSet
from unlearnable_bench.defenses.preparation import per_image
from unlearnable_bench.images import Pixels


@dataclass(frozen=True, kw_only=True)
class HistogramEqualisation(Defense):
    """Equalise the histogram of each channel of each training image (OpenCV).

    One of the adaptive defenses of DUNE ([arXiv 2605.01718](https://arxiv.org/abs/2605.01718)).
    """

    needs = "nothing"

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Equalise each channel by itself."""
        return per_image(images, _equalised)


def _equalised(image: Pixels) -> NDArray[np.uint8]:
    channels = [cv2.equalizeHist(np.ascontiguousarray(image[..., k])) for k in range(3)]
    found: NDArray[np.uint8] = np.stack(channels, 2)
    return found
