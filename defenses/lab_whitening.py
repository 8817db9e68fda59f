"""Whitening of colours in LAB space."""

from dataclasses import dataclass

import cv2

from unlearnable_bench import Defense, Harness, ImageSet
from unlearnable_bench.defenses.whitening import whitened


@dataclass(frozen=True, kw_only=True)
class LABWhitening(Defense):
    """Whiten the colours of each training image in LAB space.

    One of the adaptive defenses of DUNE ([arXiv 2605.01718](https://arxiv.org/abs/2605.01718)),
    with OpenCV's colour space.
    """

    needs = "nothing"

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Remove each image's mean colour and the correlation of its channels."""
        return whitened(images, cv2.COLOR_RGB2Lab, cv2.COLOR_Lab2RGB)
