"""Noise between the working size and a picture's own size."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlearnable_bench.images import Pixels
from unlearnable_bench.poison import add_noise
from unlearnable_bench.radius import Radius


def resized(pixels: Pixels, size: int) -> Pixels:
    """Return a picture scaled to a square, uint8 [size, size, 3], as trainers scale theirs.

    Args:
        pixels: uint8 [H, W, 3].
        size: height and width of the result in pixels.
    """
    scaled = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(scaled)


def carried(noise: NDArray[np.int16], height: int, width: int) -> NDArray[np.float32]:
    """Return noise in a picture's own size: each value becomes a rectangle of equal values.

    Rectangles keep the full amplitude, where interpolation would lower it, and averaging each
    returns the noise.

    Args:
        noise: levels of 1/255, int16 [S, S, 3].
        height: height of the picture in pixels.
        width: width of the picture in pixels.

    Examples:
        >>> import numpy as np
        >>> from unlearnable_bench.protecting.carrying import carried
        >>> noise = np.zeros((2, 2, 3), np.int16)
        >>> noise[0, 1] = 8
        >>> carried(noise, 2, 5)[0, :, 0].tolist()
        [0.0, 0.0, 0.0, 8.0, 8.0]
    """
    side = noise.shape[0]
    rows = np.arange(height) * side // height
    columns = np.arange(width) * side // width
    own: NDArray[np.float32] = noise[rows[:, None], columns].astype(np.float32)
    return own


def protected(pixels: Pixels, noise: NDArray[np.int16], strength: Radius) -> Pixels:
    """Return a picture with carried noise, within the strength and 0 to 255.

    Args:
        pixels: uint8 [H, W, 3].
        noise: levels of 1/255 at the working size, int16 [S, S, 3].
        strength: largest change of a value.
    """
    own = carried(noise, *pixels.shape[:2])
    noisy: Pixels = add_noise(pixels[None], own[None], strength)[0]
    return noisy
