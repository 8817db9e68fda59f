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
    """Channels of +-1, 0 and -0.577 or 1.732 in deviations: from -1 to 1.732, in 8 bits."""
    channels = np.array([[10, 30], [10, 30]]), np.full((2, 2), 77), np.array([[0, 0], [0, 255]])
    got = prepared(ChannelNormalisation(), np.stack(channels, 2)[None])[0]
    assert got[..., 0].tolist() == [[0, 186], [0, 186]]  # 255 * 2 / 2.732
    assert got[..., 1].tolist() == [[93, 93], [93, 93]]  # 255 * 1 / 2.732
    assert got[..., 2].tolist() == [[39, 39], [39, 255]]  # 255 * 0.423 / 2.732
    assert prepared(ChannelNormalisation(), np.full((1, 2, 2, 3), 9)).max() == 0


def test_the_largest_value_of_each_normalised_image_is_255() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(300, 4, 4, 3))
    assert (prepared(ChannelNormalisation(), pixels).max((1, 2, 3)) == 255).all()


def test_normalisation_undoes_a_shift_and_a_gain_of_a_channel() -> None:
    pixels = np.random.default_rng(0).integers(40, 100, (4, 8, 8, 3))
    changed = pixels.copy()
    changed[..., 1] = 2 * pixels[..., 1] + 7
    before, after = (prepared(ChannelNormalisation(), p).astype(int) for p in (pixels, changed))
    assert np.abs(before - after).max() <= 1  # truncated after sums of other digits


def test_equalisation_spreads_the_levels_of_each_channel() -> None:
    """Shares 1/4, 1/2, 3/4, 1 above the first level: (k - 1) / 3 of the range."""
    channels = np.array([[5, 6], [7, 9]]), np.array([[9, 7], [6, 5]]), np.array([[5, 5], [6, 6]])
    got = prepared(HistogramEqualisation(), np.stack(channels, 2)[None])[0]
    assert got[..., 0].tolist() == [[0, 85], [170, 255]]
    assert got[..., 1].tolist() == [[255, 170], [85, 0]]
    assert got[..., 2].tolist() == [[0, 0], [255, 255]]


WHITENING = [
    (LABWhitening(), cv2.COLOR_RGB2Lab, cv2.COLOR_Lab2RGB),
    (YUVWhitening(), cv2.COLOR_RGB2YUV, cv2.COLOR_YUV2RGB),
]


@pytest.mark.parametrize(("defense", "there", "back"), WHITENING, ids=["lab", "yuv"])
def test_whitening_standardises_and_stretches_each_channel(
    defense: Defense, there: int, back: int
) -> None:
    """The recipe, channel by channel; truncation may differ by one where a quotient is whole."""
    pixels = np.random.default_rng(1).integers(60, 190, (6, 16, 16, 3)).astype(np.uint8)
    for image, found in zip(pixels, prepared(defense, pixels), strict=True):
        colours = cv2.cvtColor(image, there).astype(np.float64)
        for c in range(3):
            channel = (colours[..., c] - colours[..., c].mean()) / colours[..., c].std()
            channel = (channel - channel.min()) / (channel.max() - channel.min())
            colours[..., c] = np.floor(255 * channel + 1e-9)
        expected = cv2.cvtColor(colours.astype(np.uint8), back).astype(int)
        assert (np.abs(expected - found) <= 4).all()
        assert (expected == found).mean() > 0.9


@pytest.mark.parametrize("defense", [defense for defense, *_ in WHITENING], ids=["lab", "yuv"])
def test_whitening_undoes_a_shift_of_a_channel(defense: Defense) -> None:
    space = np.random.default_rng(1).integers(110, 146, (1, 16, 16, 3)).astype(np.uint8)
    back = {LABWhitening: cv2.COLOR_Lab2RGB, YUVWhitening: cv2.COLOR_YUV2RGB}[type(defense)]
    images = [cv2.cvtColor((space + shift)[0].astype(np.uint8), back) for shift in (0, 10)]
    one, other = prepared(defense, np.stack(images)).astype(int)
    # Conversions round a channel by a level, of a range of 36.
    assert np.abs(one - other).mean() < 0.5 * np.abs(images[0] - images[1].astype(int)).mean()


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
