"""The colour defenses: values by hand, and what each of them removes."""

import cv2
import numpy as np
import pytest
import torch
from helpers import make_harness, random_images
from scipy import stats
from torch import nn

from unlearnable_bench import Defense, ImageSet, Radius, Random
from unlearnable_bench.defenses.channel_normalisation import ChannelNormalisation
from unlearnable_bench.defenses.colour_gaussian import ColourGaussian
from unlearnable_bench.defenses.histogram_equalisation import HistogramEqualisation
from unlearnable_bench.defenses.lab_whitening import LABWhitening
from unlearnable_bench.defenses.yuv_whitening import YUVWhitening


def prepared(defense: Defense, pixels: np.ndarray) -> np.ndarray:
    images = ImageSet(pixels.astype(np.uint8), np.zeros(len(pixels), np.int64), 2)
    found: np.ndarray = defense.prepare(images, make_harness()).images
    return found


def test_channels_get_the_same_mean_and_deviation() -> None:
    """Levels 10 and 30 have mean 20 and deviation 10, so 127.5 -+ 63.75 rounds to 64 and 191."""
    channels = np.array([[10, 30], [10, 30]]), np.full((2, 2), 77), np.array([[0, 0], [0, 255]])
    got = prepared(ChannelNormalisation(), np.stack(channels, 2)[None])[0]
    assert got[..., 0].tolist() == [[64, 191], [64, 191]]
    assert got[..., 1].tolist() == [[128, 128], [128, 128]]  # constant
    # Mean 63.75, deviation 63.75 sqrt(3): 127.5 - 63.75 / sqrt(3) and 127.5 + 63.75 sqrt(3).
    assert got[..., 2].tolist() == [[91, 91], [91, 238]]


def test_normalisation_undoes_a_shift_and_a_gain_of_a_channel() -> None:
    pixels = np.random.default_rng(0).integers(40, 100, (4, 8, 8, 3))
    changed = pixels.copy()
    changed[..., 1] = 2 * pixels[..., 1] + 7
    before, after = (prepared(ChannelNormalisation(std=0.1), p) for p in (pixels, changed))
    np.testing.assert_array_equal(before, after)


def test_equalisation_spreads_the_levels_of_each_channel() -> None:
    """Shares 1/4, 1/2, 3/4, 1 above the first level: (k - 1) / 3 of the range."""
    channels = np.array([[5, 6], [7, 9]]), np.array([[9, 7], [6, 5]]), np.array([[5, 5], [6, 6]])
    got = prepared(HistogramEqualisation(), np.stack(channels, 2)[None])[0]
    assert got[..., 0].tolist() == [[0, 85], [170, 255]]
    assert got[..., 1].tolist() == [[255, 170], [85, 0]]
    assert got[..., 2].tolist() == [[0, 0], [255, 255]]


WHITENING = [
    # RGB is right to half a level: a unit of LAB, and 0.002 of each channel of YUV.
    (LABWhitening(), cv2.COLOR_RGB2Lab, 1.0),
    (YUVWhitening(), cv2.COLOR_RGB2YUV, 0.004),
]


def soft_images(count: int = 6) -> np.ndarray:
    """Return images of middle colours whose channels are correlated."""
    random = np.random.default_rng(1)
    grey = random.normal(0, 12, (count, 16, 16, 1))
    colour = random.normal(0, 5, (count, 16, 16, 3))
    offset = random.uniform(-15, 15, (count, 1, 1, 3))
    return np.rint(np.clip(128 + grey + colour + offset, 0, 255))


@pytest.mark.parametrize(("defense", "there", "tolerance"), WHITENING, ids=["lab", "yuv"])
def test_whitening_equals_its_formula_for_each_image(
    defense: Defense, there: int, tolerance: float
) -> None:
    pixels = soft_images()
    spaces = [cv2.cvtColor((p / 255).astype(np.float32), there).reshape(-1, 3) for p in pixels]
    every = np.concatenate(spaces).astype(np.float64)
    mean, deviation = every.mean(0), every.std(0)
    got = prepared(defense, pixels)
    for colours, found in zip(spaces, got, strict=True):
        scaled = colours / deviation
        covariance = np.cov(scaled.T, bias=True) + 0.01 * np.eye(3)
        vectors, values, _ = np.linalg.svd(covariance)
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        expected = (scaled - scaled.mean(0)) @ root * deviation + mean
        again = cv2.cvtColor((found / 255).astype(np.float32), there).reshape(-1, 3)
        assert (np.abs(again - expected) < tolerance).mean() > 0.99


@pytest.mark.parametrize("defense", [defense for defense, *_ in WHITENING], ids=["lab", "yuv"])
def test_whitening_removes_a_colour_cast(defense: Defense) -> None:
    pixels = soft_images()
    got = prepared(defense, pixels)
    before, after = (p.mean((1, 2)).std(0).max() for p in (pixels, got))
    assert before > 5
    assert after < 1


@pytest.mark.parametrize("defense", [defense for defense, *_ in WHITENING], ids=["lab", "yuv"])
def test_whitening_bears_images_without_colour(defense: Defense) -> None:
    flat = np.full((2, 4, 4, 3), 90)
    np.testing.assert_allclose(prepared(defense, flat), flat, atol=1)


def test_the_colour_shift_is_one_for_a_channel_and_the_noise_has_one_deviation() -> None:
    x, y = torch.full((400, 3, 16, 16), 0.5), torch.eye(400)
    defense = ColourGaussian(shift=Radius("8/255"), noise=Radius("4/255"))
    got, targets = defense.augment(nn.Identity(), x, y, Random(0, "training"))
    assert torch.equal(targets, y)
    change = 255 * (got - x)
    shifts = change.mean((2, 3)).flatten().numpy()
    # The mean of 256 values of deviation 4 adds 0.25 at most.
    assert stats.kstest(shifts, stats.uniform(-8, 16).cdf).pvalue > 0.001
    deviations = change.std((2, 3))
    assert float((deviations.amax(1) / deviations.amin(1)).median()) < 1.3
    assert stats.kstest(deviations.mean(1).numpy(), stats.uniform(0, 4).cdf).pvalue > 0.001


def test_without_noise_only_the_shift_is_left() -> None:
    x = random_images(count=6).images
    batch = torch.tensor(x).permute(0, 3, 1, 2) / 255
    defense = ColourGaussian(shift=Radius("8/255"), noise=Radius("0"))
    got, _ = defense.augment(nn.Identity(), batch, torch.eye(6), Random(0, "training"))
    shift = Random(0, "training").uniform(6, 3, 1, 1, low=-8 / 255, high=8 / 255)
    torch.testing.assert_close(got, (batch + shift).clamp(0, 1))
