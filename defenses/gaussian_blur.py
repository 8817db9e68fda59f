"""Gaussian blur of a given width."""

from dataclasses import dataclass

import cv2

from unlearnable_bench import Defense, Harness, ImageSet, option
from unlearnable_bench.defenses.preparation import per_image


@dataclass(frozen=True, kw_only=True)
class GaussianBlur(Defense):
    """Gaussian blur of the training images, given by its standard deviation.

    The window spans about three standard deviations to each side. The Gaussian blur of
    ISS ([arXiv 2301.13838](https://arxiv.org/abs/2301.13838)) and APBench has a window of
    3 pixels and a standard deviation of 0.1 pixels: neighbours have weight e^-50, so it does
    not change 8-bit images.
    """

    needs = "nothing"

    sigma: float = option(1.0, "standard deviation in pixels", minimum=0.1)

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Blur each image; borders are mirrored (OpenCV)."""
        return per_image(images, lambda image: cv2.GaussianBlur(image, (0, 0), self.sigma))
