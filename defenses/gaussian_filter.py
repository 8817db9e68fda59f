"""Gaussian low-pass filter of a given window."""

from dataclasses import dataclass

import cv2

from unlearnable_bench import Defense, Harness, ImageSet, option
from unlearnable_bench.defenses.preparation import per_image, refuse_even


@dataclass(frozen=True, kw_only=True)
class GaussianFilter(Defense):
    """Gaussian filter on the training images, 3x3: a low-pass test of the SEM code."""

    needs = "nothing"

    size: int = option(3, "side of the window in pixels, odd", minimum=1)
    sigma: float = option(
        0.0,
        "standard deviation in pixels; 0: OpenCV's choice for the size (3: weights 1/4, 1/2, 1/4)",
        minimum=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_even(self.size)

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Filter each image; borders are mirrored (OpenCV)."""
        window = (self.size, self.size)
        return per_image(images, lambda image: cv2.GaussianBlur(image, window, self.sigma))
