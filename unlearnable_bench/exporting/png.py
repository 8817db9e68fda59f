"""8-bit RGB pixels as PNG and back: no metadata, every pixel kept."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Pixels


def encode(pixels: Pixels) -> bytes:
    """Return an image, uint8 [H, W, 3], as a PNG."""
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def decode(content: bytes, name: Path | str) -> Pixels:
    """Return the pixels of a PNG, uint8 [H, W, 3].

    Args:
        content: the bytes of the file.
        name: its name for messages.

    Raises:
        UserError: not an RGB image of 8 bits.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            mode, pixels = image.mode, np.asarray(image)
    except Exception as error:  # Pillow raises exceptions of many kinds on damaged files
        raise UserError(f"{name} is not a readable image; export it again") from error
    if mode != "RGB":
        raise UserError(f"{name} is an image of mode {mode}, not RGB; export it again")
    return pixels


def largest(pixels: Pixels) -> int:
    """Return a bound on the bytes of a PNG of an image: rows without compression, and headers."""
    height, width, channels = map(int, pixels.shape)
    return height * (width * channels + 8) + 1024
