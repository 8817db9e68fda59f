"""Median filter."""

from dataclasses import dataclass

import cv2

from unlearnable_bench import Defense, Harness, ImageSet, option
from unlearnable_bench.defenses.preparation import per_image, refuse_even


@dataclass(frozen=True, kw_only=True)
class MedianFilter(Defense):
    """Median filter on the training images, 3x3: a low-pass test of the SEM code."""

    needs = "nothing"

    size: int = option(3, "side of the window in pixels, odd", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_even(self.size)

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Replace each value by the median of its window; borders are repeated (OpenCV)."""
        return per_image(images, lambda image: cv2.medianBlur(image, self.size))
