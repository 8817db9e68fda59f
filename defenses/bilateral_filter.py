"""Bilateral filter."""

from dataclasses import dataclass

import cv2

from unlearnable_bench import Defense, Harness, ImageSet, option
from unlearnable_bench.defenses.preparation import per_image


@dataclass(frozen=True, kw_only=True)
class BilateralFilter(Defense):
    """Bilateral filter on the training images (9, 75, 75): a low-pass test of the SEM code."""

    needs = "nothing"

    diameter: int = option(9, "diameter of the neighbourhood in pixels", minimum=1)
    sigma_color: float = option(
        75.0,
        "standard deviation of the colour weights, for the sum of the absolute differences of the "
        "three channels in 8-bit levels",
        minimum=0,
    )
    sigma_space: float = option(
        75.0, "standard deviation of the distance weights in pixels", minimum=0
    )

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Average nearby pixels of similar colour; borders are mirrored (OpenCV)."""
        settings = (self.diameter, self.sigma_color, self.sigma_space)
        return per_image(images, lambda image: cv2.bilateralFilter(image, *settings))
