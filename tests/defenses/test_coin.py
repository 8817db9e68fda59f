"""Random displacement of pixels: scipy's, and values by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import nn

from unlearnable_bench import Random, UserError
from unlearnable_bench.defenses.coin import COIN, displace


@pytest.mark.parametrize("alpha", [0.3, 2.0, 9.5])
def test_equals_scipy_image_by_image(alpha: float) -> None:
    x = Random(1, "x").uniform(3, 3, 7, 9).double()
    y = torch.eye(3)
    got, targets = COIN(alpha=alpha).augment(nn.Identity(), x, y, Random(3, "training"))
    by = Random(3, "training").uniform(2, 3, 7, 9, low=-alpha, high=alpha).double().numpy()
    rows, columns = np.meshgrid(np.arange(7), np.arange(9), indexing="ij")
    for k in range(3):
        places = [rows + by[0, k], columns + by[1, k]]
        for channel in range(3):
            expected = map_coordinates(x[k, channel].numpy(), places, order=1, mode="wrap")
            # The displacement's own rounding: it is float32, as are all draws.
            np.testing.assert_allclose(got[k, channel], expected, atol=1e-6)
    assert torch.equal(targets, y)


def test_half_a_pixel_to_the_right_averages_neighbours_and_wraps_around() -> None:
    """The last pixel coincides with the first, so half a pixel behind it lies before the second."""
    x = torch.tensor([[0.0, 0.2, 0.6], [0.3, 0.5, 0.9], [1.0, 0.0, 0.4]]).expand(1, 3, 3, 3)
    by = torch.stack([torch.zeros(1, 3, 3), torch.full((1, 3, 3), 0.5)])
    expected = torch.tensor([[0.1, 0.4, 0.1], [0.4, 0.7, 0.4], [0.5, 0.2, 0.5]])
    torch.testing.assert_close(displace(x, by), expected.expand(1, 3, 3, 3))


def test_a_position_at_a_border_is_that_pixel() -> None:
    x = Random(2, "x").uniform(1, 3, 4, 4)
    by = torch.stack([3.0 - torch.arange(4.0)[:, None].expand(4, 4), torch.zeros(4, 4)])[:, None]
    assert torch.equal(displace(x, by), x[:, :, 3:].expand(1, 3, 4, 4))


def test_whole_pixels_are_moved_exactly() -> None:
    """With a period of 4 rows and columns of 5."""
    x = Random(2, "x").uniform(2, 3, 5, 5)
    by = torch.stack([torch.full((2, 5, 5), -2.0), torch.full((2, 5, 5), 1.0)])
    expected = x[:, :, [2, 3, 0, 1, 2]][..., [1, 2, 3, 4, 1]]
    assert torch.equal(displace(x, by), expected)
    assert torch.equal(COIN(alpha=0.0).augment(nn.Identity(), x, x, Random(0, "t"))[0], x)


def test_a_position_moves_by_up_to_alpha_along_both_axes() -> None:
    """On ramps, the value is the coordinate; the two channels are rows and columns."""
    row, column = np.meshgrid(np.arange(20.0), np.arange(20.0), indexing="ij")
    x = torch.tensor(np.stack([row, column, row + column]))[None].repeat(30, 1, 1, 1)
    got, _ = COIN().augment(nn.Identity(), x, torch.eye(30), Random(5, "training"))
    inner = slice(2, 17)  # two pixels and the next one stay within the border
    moved = (got - x)[..., inner, inner]
    torch.testing.assert_close(moved[:, 0] + moved[:, 1], moved[:, 2], rtol=0, atol=1e-5)
    for axis in (0, 1):
        assert -2 <= float(moved[:, axis].min()) < -1.99
        assert 1.99 < float(moved[:, axis].max()) < 2
        # Uniform: mean 0 and standard deviation 4 / sqrt(12).
        assert float(moved[:, axis].std()) == pytest.approx(4 / math.sqrt(12), abs=0.02)
    assert abs(float(np.corrcoef(moved[:, 0].flatten(), moved[:, 1].flatten())[0, 1])) < 0.05


def test_a_negative_displacement_is_refused() -> None:
    with pytest.raises(UserError, match=r"coin\.alpha must be at least 0"):
        COIN.configured({"alpha": "-1"}, owner="coin")
