"""Stretching of the channels of each image, in a colour space."""

import cv2
import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import ImageSet
from unlearnable_bench.defenses.preparation import per_image
from unlearnable_bench.images import Pixels


def whitened(images: ImageSet, there: int, back: int) -> ImageSet:
    """Stretch each channel of each image, in the colour space, from 0 to 255.

    The authors standardise the channel before, which changes rounding only: in their float32, a
    whole value can become one less. Values are truncated to 8 bits. A constant channel stays as it
    is.

    Args:
        images: the training set, uint8 [N, H, W, 3].
        there: OpenCV's code for the conversion from RGB of 8 bits.
        back: OpenCV's code for the conversion to RGB of 8 bits.
    """

    def change(image: Pixels) -> NDArray[np.uint8]:
        colours = cv2.cvtColor(image, there).astype(np.float64)
        least = colours.min((0, 1))
        width = colours.max((0, 1)) - least
        stretched = np.where(width > 0, 255 * (colours - least) / np.maximum(width, 1), colours)
        return cv2.cvtColor(stretched.astype(np.uint8), back).astype(np.uint8)

    return per_image(images, change)
