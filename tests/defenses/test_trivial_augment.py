"""UEraser's operations have kornia's meaning: values worked out by hand, and the draws."""

import math

import pytest
import torch
from torch import Tensor, nn

from unlearnable_bench import Random
from unlearnable_bench.defenses import trivial_augment
from unlearnable_bench.defenses.trivial_augment import OPERATIONS
from unlearnable_bench.defenses.ueraser import UEraserLite

SIDE = 5
X = Random(1, "images").uniform(1, 3, SIDE, SIDE).double()


def apply(name: str, x: Tensor, draw: float, sign: int = 1) -> Tensor:
    choice = torch.full((len(x),), OPERATIONS.index(name))
    draws = torch.full((len(x),), draw, dtype=torch.float64)
    return trivial_augment.apply(x, choice, draws, torch.full_like(draws, sign))


def of_value(name: str, value: float, draw: float) -> float:
    """Return what becomes of an image of one value."""
    return apply(name, torch.full((1, 3, 4, 4), value, dtype=torch.float64), draw)[
        0, 0, 0, 0
    ].item()


# The factor is 0.1 + 1.8 m: 0.55 for m = 1/4, 1.45 for m = 3/4.
@pytest.mark.parametrize(
    ("name", "value", "draw", "expected"),
    [
        ("brightness", 0.3, 0.75, 0.3 + 0.45),
        ("brightness", 0.9, 0.75, 1.0),
        ("brightness", 0.9, 0.25, 0.9 - 0.45),
        ("brightness", 0.3, 0.25, 0.0),
        ("contrast", 0.3, 0.75, 1.45 * 0.3),
        ("contrast", 0.9, 0.75, 1.0),
        ("contrast", 0.9, 0.25, 0.55 * 0.9),
        ("contrast", 0.3, 0.0, 0.03),
        # 200 is 11001000 and 77 is 01001101 in binary.
        ("posterize", 200 / 255, 1.0, 0b11000000 / 255),
        ("posterize", 77 / 255, 1.0, 0b01000000 / 255),
        ("posterize", 200 / 255, 0.7, 0b11000000 / 255),
        ("posterize", 77 / 255, 0.25, 0.0),
        ("posterize", 200 / 255, 0.25, 0b10000000 / 255),
        ("posterize", 200 / 255, 0.13, 0b10000000 / 255),
        ("posterize", 200 / 255, 0.12, 0.0),
        ("solarize", 0.3, 0.4, 0.3),
        ("solarize", 0.4, 0.4, 0.6),
        ("solarize", 0.9, 0.4, 0.1),
    ],
)
def test_each_value_is_that_worked_out_by_hand(
    name: str, value: float, draw: float, expected: float
) -> None:
    assert of_value(name, value, draw) == pytest.approx(expected, abs=1e-12)


def test_sharpness_moves_away_from_a_blurred_image_and_towards_it() -> None:
    """A white pixel on black: 5/13 of it stays, each of its eight neighbours gets 1/13."""
    x = torch.zeros(1, 3, 7, 7).double()
    x[..., 3, 3] = 1
    softer, sharper = apply("sharpness", x, 0.25)[0, 0], apply("sharpness", x, 0.75)[0, 0]
    assert softer[3, 3].item() == pytest.approx(0.55 + 0.45 * 5 / 13)
    assert softer[2, 4].item() == pytest.approx(0.45 / 13)
    assert (sharper[3, 3].item(), sharper[2, 4].item()) == (1, 0)


def test_autocontrast_spreads_each_channel() -> None:
    x = torch.full((1, 3, 4, 4), 0.2, dtype=torch.float64)
    x[:, :, :2] = 0.6
    x[:, 2] = 0.4
    got = apply("autocontrast", x, 0.5)
    assert got[0, :2, :2].eq(1).all()
    assert got[0, :2, 2:].eq(0).all()
    assert torch.equal(got[0, 2], x[0, 2])


def moved(x: Tensor, down: int, right: int, row: int, column: int) -> float:
    """Return the value that comes to a place from so far away, 0 from outside."""
    i, j = row + down, column + right
    return x[0, 0, i, j].item() if 0 <= i < SIDE and 0 <= j < SIDE else 0.0


@pytest.mark.parametrize("sign", [1, -1])
def test_shear_is_about_the_centre_and_its_angle_is_uniform(sign: int) -> None:
    """54 m = 45 degrees: a row's pixels come from as far as the row is from the middle one."""
    sideways, upright = (apply(n, X, 45 / 54, sign) for n in ("shear-x", "shear-y"))
    for i in range(SIDE):
        for j in range(SIDE):
            expected = moved(X, 0, sign * (i - 2), i, j)
            assert sideways[0, 0, i, j].item() == pytest.approx(expected, abs=1e-9)
            expected = moved(X, sign * (j - 2), 0, i, j)
            assert upright[0, 0, i, j].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_shifts_are_shares_of_the_side_and_not_whole_pixels(sign: int) -> None:
    """m / 2 of 5 px times 5/4: 1 px for m = 0.32, half a pixel for 0.16."""
    whole, half = (apply("translate-x", X, m, sign) for m in (0.32, 0.16))
    down = apply("translate-y", X, 0.32, sign)
    for i in range(SIDE):
        for j in range(SIDE):
            here, beside = X[0, 0, i, j].item(), moved(X, 0, -sign, i, j)
            assert whole[0, 0, i, j].item() == pytest.approx(beside, abs=1e-9)
            assert half[0, 0, i, j].item() == pytest.approx((here + beside) / 2, abs=1e-9)
            expected = moved(X, -sign, 0, i, j)
            assert down[0, 0, i, j].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_rotation_is_up_to_30_degrees(sign: int) -> None:
    """A ramp from left to right becomes one along the direction that is turned."""
    x = (0.5 + 0.1 * (torch.arange(SIDE) - 2.0)).double().expand(1, 3, SIDE, SIDE)
    got = apply("rotate", x, 1.0, sign)[0, 0]
    cos, sin = math.sqrt(3) / 2, sign / 2
    for i, j in ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 3)):
        expected = 0.5 + 0.1 * (cos * (j - 2) - sin * (i - 2))
        assert got[i, j].item() == pytest.approx(expected, abs=1e-7)


def test_each_image_has_its_own_operation() -> None:
    count = len(OPERATIONS)
    x, draw = X.expand(count, -1, -1, -1), torch.linspace(0.2, 0.9, count).double()
    sign = torch.tensor([1.0, -1.0]).double().repeat(count)[:count]
    got = trivial_augment.apply(x, torch.arange(count), draw, sign)
    for image, name, m, s in zip(got, OPERATIONS, draw, sign, strict=True):
        torch.testing.assert_close(image[None], apply(name, X, float(m), int(s)))


def test_ueraser_draws_the_twelve_operations_of_kornia_in_both_directions() -> None:
    """No identity, no saturation; 1/12 of 3,000 each."""
    drawn: list[tuple[Tensor, Tensor]] = []
    whole = trivial_augment.apply

    def noted(x: Tensor, choice: Tensor, draw: Tensor, sign: Tensor) -> Tensor:
        drawn.append((choice, sign))
        assert float(draw.min()) < 0.01
        assert float(draw.max()) > 0.99
        return whole(x, choice, draw, sign)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unlearnable_bench.defenses.ueraser.apply", noted)
        x = torch.full((3000, 3, 4, 4), 0.5)
        UEraserLite().augment(nn.Identity(), x, x, Random(0, "training"))
    choice, sign = drawn[0]
    counts = torch.bincount(choice, minlength=len(OPERATIONS))
    assert len(counts) == 12
    assert int(counts.min()) > 190
    assert int(counts.max()) < 310
    assert sign.unique().tolist() == [-1, 1]
