"""Noise at the working size and at a picture's own size, by values worked out by hand."""

import numpy as np
import pytest

from unlearnable_bench import Radius
from unlearnable_bench.protecting.carrying import carried, protected, resized


def test_each_value_becomes_a_rectangle_of_the_picture() -> None:
    noise = np.array([[1, 2], [3, 4]], np.int16)[..., None].repeat(3, 2)
    own = carried(noise, 3, 4)
    # Row r of 3 belongs to row floor(2 r / 3): 0, 0, 1; columns of 4 to 0, 0, 1, 1.
    assert own[..., 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4]]
    assert (own[..., 1] == own[..., 0]).all()


def test_pictures_below_the_working_size_take_every_second_value() -> None:
    noise = np.arange(4, dtype=np.int16)[None, :, None].repeat(4, 0).repeat(3, 2)
    assert carried(noise, 2, 2)[..., 0].tolist() == [[0, 2], [0, 2]]


def test_a_protected_value_stays_within_strength_and_8_bits() -> None:
    pixels = np.array([[[0, 100, 250], [255, 3, 9]]], np.uint8)
    noise = np.array([[[-8, 12, 8], [8, -8, 5]]], np.int16)
    wide = np.broadcast_to(noise, (2, 2, 3))
    found = protected(pixels, wide, Radius("8/255"))
    # 0 - 8 and 255 + 8 are cut at the ends; 12 is cut to 8.
    assert found.tolist() == [[[0, 108, 255], [255, 0, 14]]]
    assert protected(pixels, wide, Radius("3/255")).tolist() == [[[0, 103, 253], [255, 0, 12]]]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 128), (128, 64)])
def test_scaling_back_to_the_working_size_returns_the_noise(height: int, width: int) -> None:
    noise = 4 * np.random.default_rng(0).integers(-1, 2, (32, 32, 3)).astype(np.int16)
    grey = np.full((height, width, 3), 128, np.uint8)
    back = resized(protected(grey, noise, Radius("8/255")), 32).astype(int) - 128
    slope = (back * noise).sum() / (noise.astype(int) ** 2).sum()
    # Pillow's bilinear filter spans two output pixels, so some of the contrast is lost.
    assert 0.5 < slope <= 1
    assert np.corrcoef(back.ravel(), noise.ravel())[0, 1] > 0.9
