"""Whitening of the colours of each image, in a colour space."""

import cv2
import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import ImageSet
from unlearnable_bench.defenses.preparation import per_image
from unlearnable_bench.images import Pixels

# Bounds the amplification of an image's colours at ten times.
_LEAST_VARIANCE = 0.01


def whitened(images: ImageSet, there: int, back: int) -> ImageSet:
    """Give all images the same mean colour, and colours that are not correlated.

    In the colour space, scaled by the set's standard deviation of each channel, the colours of an
    image are centred and multiplied by (covariance + 0.01)^(-1/2); then the set's standard
    deviation and mean are restored. The result is rounded and clipped to 8 bits.

    Args:
        images: the training set, uint8 [N, H, W, 3].
        there: OpenCV's code for the conversion from RGB.
        back: OpenCV's code for the conversion to RGB.
    """
    total, squares = np.zeros(3), np.zeros(3)
    for image in images.images:
        colours = _colours(image, there)
        total += colours.sum(0)
        squares += (colours**2).sum(0)
    count = images.images[..., 0].size
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    scale = np.where(deviation > 1e-6, deviation, 1)

    def change(image: Pixels) -> NDArray[np.float64]:
        colours = _colours(image, there) / scale
        colours -= colours.mean(0)
        variances, axes = np.linalg.eigh(colours.T @ colours / len(colours))
        root = axes / np.sqrt(variances + _LEAST_VARIANCE) @ axes.T
        white = (colours @ root * scale + mean).astype(np.float32)
        rgb = cv2.cvtColor(white.reshape(image.shape), back)
        levels: NDArray[np.float64] = np.clip(np.rint(255.0 * rgb), 0, 255)
        return levels

    return per_image(images, change)


def _colours(image: Pixels, there: int) -> NDArray[np.float64]:
    """Return the colours of an image in the colour space, float64 [H W, 3]."""
    converted = cv2.cvtColor(image.astype(np.float32) / np.float32(255), there)
    return converted.reshape(-1, 3).astype(np.float64)
