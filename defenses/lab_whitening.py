"""Whitening of colours in LAB space."""

from dataclasses import dataclass
from typing import ClassVar

import cv2

from unlearnable_bench import Defense, Harness, ImageSet
from unlearnable_bench.defenses.whitening import whitened


@dataclass(frozen=True, kw_only=True)
class LABWhitening(Defense):
    """Stretch each LAB channel of each training image over its range.

    One of the adaptive defenses of DUNE ([arXiv 2605.01718](https://arxiv.org/abs/2605.01718)),
    with OpenCV's colour space.
    """

    version: ClassVar[str] = "2"  # version 1 removed the correlation of the channels

    needs = "nothing"

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Stretch each channel of each image by its own least and largest value."""
        return whitened(images, cv2.COLOR_RGB2Lab, cv2.COLOR_Lab2RGB)
