"""Low-pass filter and random sharpening: scipy's DCT, loops, and values by hand."""

import numpy as np
import pytest
import torch
from helpers import make_harness, random_images
from scipy.fft import dctn, idctn
from torch import nn

from unlearnable_bench import ImageSet, Random, UserError
from unlearnable_bench.defenses.low_pass import LowPass
from unlearnable_bench.defenses.rsk import RSK


def filtered(image: np.ndarray, kept: int) -> np.ndarray:
    """Return one channel without the coefficients beyond the first `kept` rows and columns."""
    coefficients = dctn(image, norm="ortho")
    coefficients[kept:] = 0
    coefficients[:, kept:] = 0
    found: np.ndarray = idctn(coefficients, norm="ortho")
    return found


@pytest.mark.parametrize(("cutoff", "kept"), [(0.5, 7), (0.3, 4), (0.01, 1)])
def test_low_pass_equals_scipys_dct(cutoff: float, kept: int) -> None:
    images = random_images(count=5, size=15)
    got = LowPass(cutoff=cutoff).prepare(images, make_harness()).images
    for image, found in zip(images.images, got, strict=True):
        for channel in range(3):
            exact = np.clip(filtered(image[..., channel].astype(float), kept), 0, 255)
            assert np.abs(found[..., channel] - exact).max() <= 0.5 + 1e-6


def test_a_cut_off_of_one_keeps_the_images_and_of_zero_their_mean() -> None:
    images = random_images(count=5, size=9)
    same = LowPass(cutoff=1.0).prepare(images, make_harness("fp32")).images
    np.testing.assert_array_equal(same, images.images)
    flat = LowPass(cutoff=0.0).prepare(images, make_harness()).images
    means = np.rint(images.images.mean((1, 2), keepdims=True))
    np.testing.assert_array_equal(flat, np.broadcast_to(means, flat.shape))


def test_the_lowest_wave_stays_and_most_of_a_checkerboard_is_removed() -> None:
    place = np.arange(8)
    wave = 128 + 60 * np.cos(np.pi / 8 * (place + 0.5))
    board = 40 * (-1.0) ** place
    pixels = np.rint(wave + board)[None, None, :, None].repeat(8, 1).repeat(3, 3)
    images = ImageSet(pixels.astype(np.uint8), np.array([0]), 2)
    found = LowPass(cutoff=0.25).prepare(images, make_harness()).images.astype(float)
    # Of the board the first wave keeps 2/8 sum (-1)^n cos(pi/8 (n + 1/2)) = 0.255.
    left = wave + 40 * 0.255 * np.cos(np.pi / 8 * (place + 0.5))
    assert np.abs(found[0, 0, :, 0] - left).max() < 1


def test_rsk_equals_the_kernel_by_loops_and_scipys_dct() -> None:
    x = Random(1, "x").uniform(4, 3, 10, 10).double()
    y = torch.eye(4)
    got, targets = RSK().augment(nn.Identity(), x, y, Random(3, "training"))
    random = Random(3, "training")
    centres = 2.5 + 0.1 * random.normal(4, 1, 1, 1)
    drawn = 0.1 * random.normal(4, 4, 1, 1, 1)
    for k in range(4):
        centre = float(centres[k])
        kernel = np.zeros((3, 3))
        kernel[1, 1] = centre
        for side, place in enumerate([(0, 1), (2, 1), (1, 0), (1, 2)]):
            kernel[place] = -((centre - 1) / 4 + float(drawn[side, k]))
        for channel in range(3):
            image, sharp = x[k, channel].numpy(), np.zeros((8, 8))
            for i in range(8):
                for j in range(8):
                    sharp[i, j] = min(max((kernel * image[i : i + 3, j : j + 3]).sum(), 0), 1)
            expected = np.pad(np.clip(filtered(sharp, 2), 0, 1), 1)  # int(0.3 * 8) = 2
            np.testing.assert_allclose(got[k, channel].numpy(), expected, atol=1e-6)
    assert torch.equal(targets, y)


def test_rsk_without_spread_keeps_a_flat_image_inside_its_border() -> None:
    """The kernel of SSK sums to 2.5 - 4 * 1.5 / 4 = 1."""
    x = torch.full((2, 3, 8, 8), 0.4)
    got, _ = RSK(spread=0.0).augment(nn.Identity(), x, torch.eye(2), Random(0, "training"))
    torch.testing.assert_close(got[..., 1:-1, 1:-1], x[..., 1:-1, 1:-1])
    assert not got[..., 0, :].any()
    assert not got[..., :, -1].any()


def test_views_smaller_than_the_kernel_are_refused() -> None:
    with pytest.raises(UserError, match="rsk has a kernel of 3x3 pixels, the views are 2 px"):
        RSK().augment(nn.Identity(), torch.zeros(1, 3, 2, 2), torch.eye(1), Random(0, "training"))
