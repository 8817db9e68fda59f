"""Pictures of more than 8 bits per value are scaled by their range or refused, never clipped."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from PIL import Image

from unlearnable_bench import UserError
from unlearnable_bench.datasets.decoding import read_picture
from unlearnable_bench.datasets.folder import Folder
from unlearnable_bench.datasets.imagenet_subset import ImageNetSubset

# 16-bit levels and what is left of each without its lower byte.
LEVELS = np.array([[0, 255, 256, 257], [4096, 32767, 32768, 65535]], np.uint16)
EXPECTED = [[0, 0, 1, 1], [16, 127, 128, 255]]


@pytest.mark.parametrize(
    ("ending", "order"), [("png", "<u2"), ("pgm", "<u2"), ("tif", "<u2"), ("tif", ">u2")]
)
def test_16_bit_grey_keeps_the_upper_byte(tmp_path: Path, ending: str, order: str) -> None:
    file = tmp_path / f"grey.{ending}"
    Image.fromarray(LEVELS.astype(order)).save(file)
    pixels = read_picture(file)
    assert pixels.dtype == np.uint8
    for channel in range(3):
        assert pixels[..., channel].tolist() == EXPECTED


def test_a_pgm_is_scaled_by_the_maximum_in_its_header(tmp_path: Path) -> None:
    file = tmp_path / "ten-bits.pgm"
    file.write_bytes(b"P5\n2 1\n1023\n" + np.array([0, 1023], ">u2").tobytes())
    assert read_picture(file)[0, :, 0].tolist() == [0, 255]


def test_a_tiff_of_12_bits_is_scaled_by_12_bits(tmp_path: Path) -> None:
    # 0x000, 0xFFF, 0x800 and 0x7F0 in packed fields of 12 bits.
    strip = bytes([0x00, 0x0F, 0xFF, 0x80, 0x07, 0xF0])
    tags = [
        (256, 4),
        (257, 1),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (279, len(strip)),
    ]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    file = tmp_path / "scan.tif"
    file.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory)
    assert read_picture(file)[0, :, 1].tolist() == [0x00, 0xFF, 0x80, 0x7F]


@given(arrays.arrays(np.uint16, (4, 4)).filter(lambda levels: levels.max() >= 4096))
def test_any_16_bit_picture_is_dark_where_it_was_dark(
    tmp_path_factory: pytest.TempPathFactory, levels: np.ndarray
) -> None:
    file = tmp_path_factory.mktemp("depth") / "any.png"
    Image.fromarray(levels).save(file)
    pixels = read_picture(file)[..., 0].astype(int)
    assert (np.abs(257 * pixels - levels.astype(int)) <= 256).all()


def test_a_resized_16_bit_picture_is_scaled_first(tmp_path: Path) -> None:
    file = tmp_path / "grey.png"
    Image.fromarray(np.full((6, 6), 128 * 257, np.uint16)).save(file)
    assert np.unique(read_picture(file, size=3)).tolist() == [128]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.linspace(0, 1, 16, dtype=np.float32), "has floats, for which black and white"),
        (np.linspace(0, 255, 16, dtype=np.float32), "has floats, for which"),
        (np.linspace(-1, 1, 16, dtype=np.float32), "has floats, for which"),
        (np.arange(16, dtype=np.int32) << 27, "has integers of more than 16 bits or with a sign"),
        (np.arange(16, dtype=np.int32), "has integers of more than 16 bits or with a sign"),
    ],
    ids=["0 to 1", "0 to 255", "-1 to 1", "32 bits", "small"],
)
def test_values_without_a_known_white_are_refused(
    tmp_path: Path, values: np.ndarray, words: str
) -> None:
    file = tmp_path / "depth.tif"
    Image.fromarray(values.reshape(4, 4)).save(file)
    with pytest.raises(UserError, match=f"depth.tif {words}.*8-bit PNG"):
        read_picture(file)


@pytest.mark.parametrize("largest", [1, 1000, 4095])
def test_16_bit_values_that_would_all_be_black_are_refused(tmp_path: Path, largest: int) -> None:
    file = tmp_path / "x-ray.png"
    Image.fromarray(np.array([[0, largest]], np.uint16)).save(file)
    with pytest.raises(UserError, match=f"none above {largest} of 65535.*black in 8 bits"):
        read_picture(file)


def test_black_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "black.png")
    assert read_picture(tmp_path / "black.png").max() == 0


def test_a_folder_of_16_bit_pictures_is_not_white(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            levels = np.full((8, 8), 257 * (60 + 100 * label), np.uint16)
            Image.fromarray(levels).save(tmp_path / split / name / "0.png")
    data = Folder(path=str(tmp_path)).load()
    assert data.train.images[:, 0, 0, 0].tolist() == [60, 160]


@pytest.mark.parametrize(("ending", "again"), [("JPEG", ""), ("png", " 2"), ("tif", " 2")])
def test_only_formats_that_were_clipped_are_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, again: str
) -> None:
    monkeypatch.setenv("UBENCH_HOME", str(tmp_path / "home"))
    root = tmp_path / "imagenet"
    sha = hashlib.sha256(b"a\nb")
    for part in ("train", "val"):
        sha.update(b"\n8")
        for label, name in enumerate("ab"):
            file = root / part / name / f"0.{ending}"
            file.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(file)
            state = file.stat()
            line = f"{part}/{name}/0.{ending} {label} {state.st_size} {state.st_mtime_ns}{again}"
            sha.update(f"\n{line}".encode())
    ImageNetSubset(path=str(root), classes=2, size=8, crop=8).load()
    assert [p.name for p in (tmp_path / "home").iterdir()] == [
        f"imagenet-subset-{sha.hexdigest()[:16]}"
    ]
