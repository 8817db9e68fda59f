"""Grayscale images: the first half of image shortcut squeezing (ISS)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlearnable_bench import Defense, Harness, ImageSet
from unlearnable_bench.defenses.preparation import per_image
from unlearnable_bench.images import Pixels


@dataclass(frozen=True, kw_only=True)
class Grayscale(Defense):
    """Grayscale training images: 0.299 R + 0.587 G + 0.114 B in all three channels.

    ISS-gray ([arXiv 2301.13838](https://arxiv.org/abs/2301.13838)), with Pillow's ITU-R 601-2
    luma as in the authors' code.
    """

    needs = "nothing"

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Replace the three channels of each image by its luma."""
        return per_image(images, _luma)


def _luma(image: Pixels) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]
