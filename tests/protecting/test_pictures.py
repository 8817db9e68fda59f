"""Pictures are read upright and written without loss, with what was asked for and no more."""

from pathlib import Path

import numpy as np
import pytest
from photo_files import save
from PIL import Image, ImageCms

from unlearnable_bench import UserError
from unlearnable_bench.protecting.pictures import Picture, check_format, read, write

RANDOM = np.random.default_rng(0)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("form", ["png", "webp"])
def test_every_value_is_kept_even_under_transparent_pixels(tmp_path: Path, form: str) -> None:
    pixels = RANDOM.integers(0, 256, (17, 23, 3), dtype=np.uint8)
    alpha = RANDOM.integers(0, 2, (17, 23), dtype=np.uint8) * 255
    for layer in (None, alpha):
        file = tmp_path / f"a.{form}"
        write(Picture(pixels, layer), file, form, keep_metadata=False, quality=95)
        again = read(file)
        assert (again.pixels == pixels).all()
        assert again.alpha is None if layer is None else (again.alpha == alpha).all()


def test_jpeg_is_near_and_not_equal(tmp_path: Path) -> None:
    pixels = RANDOM.integers(100, 108, (32, 32, 3), dtype=np.uint8)
    write(Picture(pixels), tmp_path / "a.jpg", "jpeg", keep_metadata=False, quality=95)
    change = np.abs(read(tmp_path / "a.jpg").pixels.astype(int) - pixels).max()
    assert 0 < change < 8


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_orientation_is_applied_and_not_written_again(tmp_path: Path, ending: str) -> None:
    file, out = tmp_path / f"a.{ending}", tmp_path / "b.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    exif[0x010F] = "Camera"
    picture = Image.new("RGB", (40, 16), (10, 10, 10))
    picture.paste((240, 240, 240), (0, 0, 16, 16))  # on the left, so on top once upright
    picture.save(file, exif=exif)
    upright = read(file)
    assert upright.pixels.shape == (40, 16, 3)
    assert upright.pixels[4, 8].min() > 200
    assert upright.pixels[36, 8].max() < 50
    write(upright, out, "png", keep_metadata=True, quality=95)
    with Image.open(out) as again:
        assert dict(again.getexif()) == {0x010F: "Camera"}
        assert again.size == (16, 40)


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
def test_metadata_is_kept_on_demand_only_and_the_profile_always(tmp_path: Path, form: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825)[1] = "N"
    source = tmp_path / "a.jpg"
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>home</x:xmpmeta>"
    save(source, exif=exif, icc_profile=PROFILE, xmp=xmp, comment="mine")
    for keep in (False, True):
        file = tmp_path / f"out.{form}"
        write(read(source), file, form, keep_metadata=keep, quality=95)
        content = file.read_bytes()
        assert (b"Camera" in content) is keep
        assert (b"xmpmeta" in content) is keep
        assert b"mine" not in content
        with Image.open(file) as again:
            assert again.info["icc_profile"] == PROFILE


def test_the_thumbnail_of_the_original_is_not_kept(tmp_path: Path) -> None:
    save(tmp_path / "thumb.jpg", 24, 24, seed=5)
    thumbnail = (tmp_path / "thumb.jpg").read_bytes()
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    # A second directory with the place and length of a JPEG, as cameras write it.
    head = exif.tobytes()[6:]
    first = 8
    count = int.from_bytes(head[first : first + 2], "little")
    link = first + 2 + 12 * count
    second = len(head)
    entries = b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value
        for tag, value in (
            (0x0201, (second + 30).to_bytes(4, "little")),
            (0x0202, len(thumbnail).to_bytes(4, "little")),
        )
    )
    ifd = (2).to_bytes(2, "little") + entries + bytes(4)
    whole = head[:link] + second.to_bytes(4, "little") + head[link + 4 :] + ifd + thumbnail
    save(tmp_path / "a.jpg", exif=b"Exif\0\0" + whole)
    assert thumbnail in (tmp_path / "a.jpg").read_bytes()
    write(read(tmp_path / "a.jpg"), tmp_path / "b.png", "png", keep_metadata=True, quality=95)
    content = (tmp_path / "b.png").read_bytes()
    assert b"Camera" in content
    assert thumbnail[-100:] not in content


def test_palettes_grey_and_transparent_colours_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    Image.new("LA", (4, 4), (77, 9)).save(tmp_path / "la.png")
    Image.new("I;16", (4, 4), 77 * 256).save(tmp_path / "wide.png")
    assert read(tmp_path / "wide.png").pixels[0, 0].tolist() == [77, 77, 77]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "p.png", transparency=1)
    assert read(tmp_path / "grey.png").pixels[0, 0].tolist() == [77, 77, 77]
    la, p = read(tmp_path / "la.png"), read(tmp_path / "p.png")
    assert (la.pixels[0, 0].tolist(), la.alpha is not None and la.alpha[0, 0]) == ([77] * 3, 9)
    assert (p.pixels[0, 0].tolist(), p.alpha is not None and p.alpha[0, 0]) == ([10, 20, 30], 0)


def test_what_a_format_cannot_hold_is_refused() -> None:
    clear = Picture(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8))
    with pytest.raises(UserError, match=r"a\.png has transparency, which JPEG lacks; .*png"):
        check_format(clear, Path("a.png"), "jpeg")
    long = Picture(np.zeros((1, 16384, 3), np.uint8))
    with pytest.raises(UserError, match="is 16384x1, and WebP holds 16383 pixels a side"):
        check_format(long, Path("a.png"), "webp")
    check_format(long, Path("a.png"), "png")
