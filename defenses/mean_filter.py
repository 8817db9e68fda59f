"""Box blur."""

from dataclasses import dataclass

import cv2

from unlearnable_bench import Defense, Harness, ImageSet, option
from unlearnable_bench.defenses.preparation import per_image


@dataclass(frozen=True, kw_only=True)
class MeanFilter(Defense):
    """Mean filter on the training images, 3x3: a low-pass test of the SEM code."""

    needs = "nothing"

    size: int = option(3, "side of the window in pixels", minimum=1)

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Replace each value by the mean of its window; borders are mirrored (OpenCV)."""
        return per_image(images, lambda image: cv2.blur(image, (self.size, self.size)))
