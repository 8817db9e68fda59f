"""One image file as 8-bit RGB."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from unlearnable_bench.errors import UserError
from unlearnable_bench.file_kinds import text_kind_of
from unlearnable_bench.images import Pixels

_WIDE = ("I;16", "I;16B", "I;16L", "I;16N")


def read_picture(file: Path, size: int | None = None, *, upright: bool = False) -> Pixels:
    """Return an image as uint8 [H, W, 3].

    Values of 16 bits lose their lower 8 bits, in grey as in RGB. Of several frames the first is
    read.

    Args:
        file: the image file.
        size: height and width in pixels to which the image is resized; None: not resized.
        upright: whether the image is turned by its EXIF orientation.

    Raises:
        UserError: not a readable image, or values whose range is unknown.
    """
    try:
        with Image.open(file) as image:
            if upright:
                ImageOps.exif_transpose(image, in_place=True)  # a copy would have no format
            return eight_bit_rgb(image, file, size)
    except UserError:
        raise
    except Exception as error:  # Pillow raises exceptions of many kinds on damaged files
        kind = text_kind_of(file) or "is not a readable image; repair or remove it"
        raise UserError(f"{file} {kind}") from error


def eight_bit_rgb(image: Image.Image, file: Path | str, size: int | None = None) -> Pixels:
    """Return an opened image as uint8 [H, W, 3], as `read_picture` does; `file` names it.

    Raises:
        UserError: values whose range is unknown.
    """
    rgb = eight_bits(image, file).convert("RGB")
    if size:
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def frames(file: Path) -> int:
    """Return the number of frames of an image file, 1 if it is not readable."""
    try:
        with Image.open(file) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:
        return 1


def eight_bits(image: Image.Image, file: Path | str) -> Image.Image:
    """Return an image of 8 bits per value; Pillow would clip wider values instead.

    Raises:
        UserError: floats or 32-bit integers, whose white is unknown, or 16-bit values that are
            all near 0.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floats" if image.mode == "F" else "integers of more than 16 bits or with a sign"
        raise UserError(
            f"{file} has {kind}, for which black and white are not defined; save it with values "
            "0 to 255, as an 8-bit PNG"
        )
    if image.mode != "I" and image.mode not in _WIDE:
        return image
    # PNG and PGM scale to 16 bits; TIFF has fields of 12 bits too.
    bits = int(getattr(image, "tag_v2", {}).get(258, (16,))[0])
    values = np.asarray(image)
    if 0 < values.max() < 2 ** (bits - 4):
        raise UserError(
            f"{file} has {bits} bits per value but none above {values.max()} of {2**bits - 1}, "
            "which is black in 8 bits; scale it, and save it as an 8-bit PNG"
        )
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))
