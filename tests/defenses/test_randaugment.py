"""Each operation equals torchvision's; each image gets its own."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from unlearnable_bench import Random
from unlearnable_bench.defenses import operations
from unlearnable_bench.defenses.operations import OPERATIONS, Ranges
from unlearnable_bench.defenses.randaugment import RandAugment

COUNT, SIZE = 4, 17
MODEL = nn.Identity()
BILINEAR = InterpolationMode.BILINEAR


def levels() -> Tensor:
    x = Random(1, "images").integers(180, COUNT, 3, SIZE, SIZE) + 20
    x[0, 1] = 77  # a channel of one value
    return x.to(torch.uint8)


X = levels().double() / 255


def affine(x: Tensor, translate: tuple[int, int], shear: tuple[float, float]) -> Tensor:
    degrees = [math.degrees(math.atan(s)) for s in shear]
    corner = [0.0, 0.0] if any(shear) else None
    moved: Tensor = functional.affine(
        x, 0.0, list(translate), 1.0, degrees, interpolation=BILINEAR, center=corner
    )
    return moved


# At magnitude 0.4: 0.3 m, m 150/331 of 17 pixels, 30 m degrees, 1 + 0.9 m, 8 - 4 m bits.
THEIRS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "identity": lambda x, _: x,
    "saturation": lambda x, sign: functional.adjust_saturation(x, 1 + 0.36 * sign),
    "shear-x": lambda x, sign: affine(x, (0, 0), (0.12 * sign, 0)),
    "shear-y": lambda x, sign: affine(x, (0, 0), (0, 0.12 * sign)),
    "translate-x": lambda x, sign: affine(x, (3 * sign, 0), (0, 0)),
    "translate-y": lambda x, sign: affine(x, (0, 3 * sign), (0, 0)),
    "rotate": lambda x, sign: functional.rotate(x, 12.0 * sign, interpolation=BILINEAR),
    "brightness": lambda x, sign: functional.adjust_brightness(x, 1 + 0.36 * sign),
    "contrast": lambda x, sign: functional.adjust_contrast(x, 1 + 0.36 * sign),
    "sharpness": lambda x, sign: functional.adjust_sharpness(x, 1 + 0.36 * sign),
    "posterize": lambda x, _: functional.posterize((255 * x).round().byte(), 6) / 255,
    "solarize": lambda x, _: functional.solarize(x, 0.6),
    "autocontrast": lambda x, _: functional.autocontrast(x),
    "equalize": lambda x, _: functional.equalize((255 * x).round().byte()) / 255,
}


def apply(name: str, x: Tensor, magnitude: float, sign: int) -> Tensor:
    choice = torch.full((len(x),), OPERATIONS.index(name))
    strength, way = torch.full((len(x),), magnitude).double(), torch.full((len(x),), sign).double()
    return operations.apply(x, choice, strength, way, Ranges())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_equals_torchvision(name: str, sign: int) -> None:
    got = apply(name, X, 0.4, sign)
    torch.testing.assert_close(got, THEIRS[name](X, sign).double(), rtol=1e-6, atol=2e-6)
    assert name == "identity" or not torch.allclose(got, X)


@pytest.mark.parametrize("brightest", [1, 4, 5])
def test_equalize_divides_the_other_pixels_by_255(brightest: int) -> None:
    """With 1,020 to 1,023 of 1,024 pixels, a step of n // 256 would be 3 instead of 4."""
    generator = torch.Generator().manual_seed(brightest)
    x = torch.randint(0, 255, (2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    x.flatten(2)[..., :brightest] = 255
    expected = functional.equalize(x).double() / 255
    torch.testing.assert_close(operations.equalize(x.double() / 255), expected)


def test_equalize_keeps_few_values() -> None:
    x = levels()
    x[:, :, 1:] = 9  # nearly all pixels are one level
    expected = functional.equalize(x).double() / 255
    torch.testing.assert_close(operations.equalize(x.double() / 255), expected)


@pytest.mark.parametrize("name", OPERATIONS[1:11])
def test_magnitude_0_changes_nothing(name: str) -> None:
    torch.testing.assert_close(apply(name, X, 0.0, 1), X, rtol=0, atol=1e-6)


def test_each_image_has_its_own_operation() -> None:
    count = len(OPERATIONS)
    x = X[1:2].expand(count, -1, -1, -1)
    magnitude = torch.linspace(0.3, 0.9, count).double()
    sign = torch.tensor([1.0, -1.0]).repeat(count)[:count].double()
    got = operations.apply(x, torch.arange(count), magnitude, sign, Ranges())
    for image, name, m, s in zip(got, OPERATIONS, magnitude, sign, strict=True):
        alone = apply(name, X[1:2], float(m), int(s))
        torch.testing.assert_close(image[None], alone, rtol=1e-6, atol=1e-6)


def chosen(x: Tensor, got: Tensor) -> Tensor:
    """Name each image's operation and direction, by trying all at 9 of 30."""
    found = torch.full((len(x),), -1)
    for number, (name, sign) in enumerate((n, s) for n in OPERATIONS for s in (1, -1)):
        same = (apply(name, x, 0.3, sign) - got).abs().flatten(1).amax(1) < 1e-5
        found = torch.where((found < 0) & same, number, found)
    return found


def test_randaugment_draws_all_operations_and_directions() -> None:
    x = X[1:2].expand(500, -1, -1, -1)
    got, _ = RandAugment(num_ops=1).augment(MODEL, x, torch.empty(0), Random(0, "training"))
    found = chosen(x, got)
    counts = torch.bincount(found + 1, minlength=29)
    assert counts[0] == 0
    unsigned = {"identity", "posterize", "solarize", "autocontrast", "equalize"}
    for index, name in enumerate(OPERATIONS):
        plus, minus = counts[2 * index + 1 : 2 * index + 3].tolist()
        assert 15 < plus + minus < 65
        assert minus == 0 if name in unsigned else min(plus, minus) > 3


def test_operations_follow_one_another() -> None:
    x = X[1:].float()
    random = Random(4, "training")
    got, _ = RandAugment(num_ops=2).augment(MODEL, x, torch.empty(0), random)
    random, one = Random(4, "training"), RandAugment(num_ops=1)
    between, _ = one.augment(MODEL, x, torch.empty(0), random)
    assert torch.equal(got, one.augment(MODEL, between, torch.empty(0), random)[0])
    none, _ = RandAugment(num_ops=0).augment(MODEL, x, torch.empty(0), random)
    assert torch.equal(none, x)
