"""JPEG compression: the second half of image shortcut squeezing (ISS)."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlearnable_bench import Defense, Harness, ImageSet, option
from unlearnable_bench.defenses.preparation import per_image
from unlearnable_bench.images import Pixels


@dataclass(frozen=True, kw_only=True)
class JPEG(Defense):
    """JPEG compression of the training images (quality 10).

    ISS-JPEG ([arXiv 2301.13838](https://arxiv.org/abs/2301.13838)), with Pillow's encoder and
    its default chroma subsampling (4:2:0), as in the authors' code.
    """

    needs = "nothing"

    quality: int = option(
        10, "quality of the JPEG encoder; lower compresses more", minimum=1, maximum=100
    )

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Encode and decode each image."""
        return per_image(images, self._compress)

    def _compress(self, image: Pixels) -> NDArray[np.uint8]:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file))
