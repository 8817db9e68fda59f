"""Bit-depth reduction."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from unlearnable_bench import Defense, Harness, ImageSet, option


@dataclass(frozen=True, kw_only=True)
class BitDepth(Defense):
    """Bit-depth reduction: keep the highest bits of each value of the training images.

    v' = 2^(8-b) floor(v / 2^(8-b)), so that 2 bits leave the levels 0, 64, 128 and 192: BDR of
    ISS ([arXiv 2301.13838](https://arxiv.org/abs/2301.13838)) and APBench
    ([arXiv 2308.03258](https://arxiv.org/abs/2308.03258)), which is Pillow's posterize.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from unlearnable_bench import Harness, ImageSet, Transform
        >>> from unlearnable_bench.defenses.bit_depth import BitDepth
        >>> from unlearnable_bench.learners.small_cnn import SmallCNN
        >>> pixels = np.array([[[5] * 3, [63] * 3], [[64] * 3, [255] * 3]], np.uint8)
        >>> images = ImageSet(pixels[None], np.array([0]), classes=2)
        >>> harness = Harness(torch.device("cpu"), 0, "fp32", Transform(1, flip=True), SmallCNN())
        >>> BitDepth(bits=2).prepare(images, harness).images[0, ..., 0].tolist()
        [[0, 0], [64, 192]]
    """

    needs = "nothing"

    bits: int = option(2, "number of bits left of the eight", minimum=1, maximum=8)

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Set the lowest 8 - `bits` bits of each value to 0.

        Args:
            images: the poisoned training set, uint8 [N, H, W, 3].
            harness: not used.

        Returns:
            The changed images with the same labels.
        """
        mask = np.uint8(256 - 2 ** (8 - self.bits))
        return dataclasses.replace(images, images=images.images & mask)
