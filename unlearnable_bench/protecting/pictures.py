"""A picture as people keep it: upright pixels, transparency and metadata."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from unlearnable_bench.datasets.decoding import eight_bits
from unlearnable_bench.errors import UserError
from unlearnable_bench.file_kinds import text_kind_of
from unlearnable_bench.images import Pixels

Format = Literal["png", "webp", "jpeg"]
SUFFIXES: dict[Format, str] = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
_XMP = "XML:com.adobe.xmp"  # the key of XMP in a PNG
_LARGEST_WEBP = 16383  # pixels


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright picture.

    Attributes:
        pixels: uint8 [H, W, 3]. Colours under transparent pixels are kept.
        alpha: uint8 [H, W]; None: opaque.
        profile: the colour profile, without which other colours would be shown; None: sRGB.
        metadata: EXIF and XMP, without the orientation that is applied to the pixels.
    """

    pixels: Pixels
    alpha: NDArray[np.uint8] | None = None
    profile: bytes | None = None
    metadata: dict[str, bytes] = field(default_factory=dict)

    def with_pixels(self, pixels: Pixels) -> "Picture":
        """Return a picture with other pixels, uint8 [H, W, 3], and all else the same."""
        return replace(self, pixels=pixels)


def read(file: Path) -> Picture:
    """Read a picture, upright: the orientation of its EXIF is applied.

    Of several frames the first is read. Other colour spaces are converted to RGB.

    Raises:
        UserError: not a readable picture.
    """
    try:
        with Image.open(file) as opened:
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)  # a copy would have no format
            upright = opened
            has_alpha = upright.has_transparency_data
            image = upright if has_alpha else eight_bits(upright, file)
            # A profile of grey or CMYK does not describe the converted values.
            profile = upright.info.get("icc_profile") if upright.mode in _OWN_COLOURS else None
            pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
            metadata = _metadata(upright)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{file} has too many pixels to be read safely; scale it down") from error
    except Exception as error:  # Pillow raises exceptions of many kinds on damaged files
        kind = text_kind_of(file) or "is not a readable image; repair or remove it"
        raise UserError(f"{file} {kind}") from error
    alpha = pixels[..., 3].copy() if has_alpha else None
    return Picture(np.ascontiguousarray(pixels[..., :3]), alpha, profile, metadata)


_OWN_COLOURS = ("RGB", "RGBA", "P", "PA")


def _metadata(image: Image.Image) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    exif = image.getexif()
    if exif:
        # Written anew from its tags, so without the thumbnail, a small unprotected copy.
        found["exif"] = exif.tobytes()
    xmp = image.info.get("xmp") or image.info.get(_XMP)
    if xmp:
        found["xmp"] = xmp.encode() if isinstance(xmp, str) else xmp
    return found


def check_format(picture: Picture, file: Path, form: Format) -> None:
    """Refuse a picture that a format cannot hold.

    Args:
        picture: the picture.
        file: its file, for the message.
        form: the format.

    Raises:
        UserError: transparency in JPEG, or more pixels a side than WebP has.
    """
    height, width = picture.pixels.shape[:2]
    if form == "jpeg" and picture.alpha is not None:
        raise UserError(f"{file} has transparency, which JPEG lacks; use --format png")
    if form == "webp" and max(height, width) > _LARGEST_WEBP:
        raise UserError(
            f"{file} is {width}x{height}, and WebP holds {_LARGEST_WEBP} pixels a side; use "
            "--format png"
        )


def write(picture: Picture, file: Path, form: Format, *, keep_metadata: bool, quality: int) -> None:
    """Write a picture; PNG and WebP hold every value, also under transparent pixels.

    Args:
        picture: the picture.
        file: the file to write.
        form: `png`, `webp` (lossless) or `jpeg`.
        keep_metadata: whether EXIF and XMP are written. A colour profile always is.
        quality: of JPEG, 1 to 100, without subsampling of colours.
    """
    layers = picture.pixels
    if picture.alpha is not None:
        layers = np.dstack([layers, picture.alpha])
    options: dict[str, Any] = {}
    if picture.profile:
        options["icc_profile"] = picture.profile
    kept = picture.metadata if keep_metadata else {}
    if "exif" in kept:
        options["exif"] = kept["exif"]
    if "xmp" in kept and form == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt(_XMP, kept["xmp"].decode(errors="replace"))
    elif "xmp" in kept:
        options["xmp"] = kept["xmp"]
    if form == "webp":
        options |= {"lossless": True, "exact": True, "method": 2, "quality": 50}
    elif form == "jpeg":
        options |= {"quality": quality, "subsampling": "4:4:4"}
    Image.fromarray(layers).save(file, form.upper(), **options)
