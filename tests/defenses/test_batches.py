"""Cutout, mixup, CutMix and noise equal their literal or torchvision's forms."""

import math
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torchvision.transforms import v2

from unlearnable_bench import Defense, Random
from unlearnable_bench.defenses import ueraser
from unlearnable_bench.defenses.coin import COIN
from unlearnable_bench.defenses.colour_gaussian import ColourGaussian
from unlearnable_bench.defenses.cutmix import CutMix, cutmix
from unlearnable_bench.defenses.cutout import Cutout, cutout
from unlearnable_bench.defenses.gaussian_noise import GaussianNoise
from unlearnable_bench.defenses.mixing import beta
from unlearnable_bench.defenses.mixup import Mixup, mixup
from unlearnable_bench.defenses.randaugment import RandAugment
from unlearnable_bench.defenses.rsk import RSK
from unlearnable_bench.defenses.ueraser import UEraserLite, UEraserMax

COUNT, SIZE, CLASSES = 6, 16, 5
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, CLASSES))
RANDOM_ONES: list[Defense] = [
    Cutout(),
    Cutout(size=5),
    Mixup(),
    Mixup(alpha=0.2),
    CutMix(),
    CutMix(alpha=3.0, probability=0.5),
    GaussianNoise(),
    COIN(),
    ColourGaussian(),
    RSK(),
    RandAugment(),
    RandAugment(num_ops=3, magnitude=30.0, magnitudes="random"),
    UEraserLite(),
    UEraserLite(probability=1.0),
    UEraserMax(candidates=3),
]


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    random = Random(7, "batch")
    x = random.integers(256, COUNT, 3, SIZE, SIZE).to(dtype) / 255
    y = nn.functional.one_hot(random.integers(CLASSES, COUNT), CLASSES)
    return x, y.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("defense", RANDOM_ONES, ids=repr)
def test_a_batch_stays_a_batch(defense: Defense, dtype: torch.dtype) -> None:
    x, y = batch(dtype)
    model = MODEL.to(dtype)
    x_before, y_before, random = x.clone(), y.clone(), Random(0, "training")
    for _ in range(5):
        got_x, got_y = defense.augment(model, x, y, random)
        assert (got_x.shape, got_y.shape) == (x.shape, y.shape)
        assert (got_x.dtype, got_y.dtype) == (dtype, dtype)
        assert not got_x.requires_grad
        assert float(got_x.min()) >= 0
        assert float(got_x.max()) <= 1
        torch.testing.assert_close(got_y.sum(1), torch.ones(COUNT, dtype=dtype))
        assert float(got_y.min()) >= 0
        assert torch.equal(x, x_before)
        assert torch.equal(y, y_before)
    again = defense.augment(model, x, y, Random(0, "training"))[0]
    assert torch.equal(again, defense.augment(model, x, y, Random(0, "training"))[0])
    others = [defense.augment(model, x, y, Random(seed, "training"))[0] for seed in range(1, 5)]
    assert not all(torch.equal(again, other) for other in others)


@pytest.mark.parametrize("defense", RANDOM_ONES, ids=repr)
def test_nothing_depends_on_a_value_on_the_host(
    defense: Defense, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler refuses `.item()`, branches on values and shapes that depend on them."""
    x, y = batch()
    model = MODEL.float()

    def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return defense.augment(model, x, y, random)

    # The harness's own way to hold a model still sets attributes, which is no tensor's affair.
    monkeypatch.setattr(ueraser, "frozen", lambda _: nullcontext())
    torch._dynamo.reset()
    compiled = torch.compile(augment, backend="eager", fullgraph=True)
    for _ in range(2):  # the first call and one that must not be that call again
        random = Random(3, "training")
        random.draws += 4
        expected = augment(x, y)
        random = Random(3, "training")
        random.draws += 4
        got = compiled(x, y)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("size", [1, 5, 8, 16, 40])
def test_cutout_equals_its_loop(size: int) -> None:
    x, _ = batch()
    x = x + 1
    random = Random(1, "centres")
    for _ in range(10):
        rows, columns = random.integers(SIZE, COUNT), random.integers(SIZE, COUNT)
        expected = x.clone()
        for image, row, column in zip(expected, rows.tolist(), columns.tolist(), strict=True):
            top, left = row - size // 2, column - size // 2
            image[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
        assert torch.equal(cutout(x, rows, columns, size), expected)


def test_cutout_reaches_every_place() -> None:
    x = torch.ones(2000, 3, 8, 8)
    blank = Cutout(size=2).augment(MODEL, x, torch.empty(0), Random(0, "training"))[0][:, 0] == 0
    assert blank.any(0).all()
    # Clipped at the upper and left border alone: the square lies half a pixel up and left.
    assert blank.sum((1, 2)).unique().tolist() == [1, 2, 4]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.77, 1.0])
def test_mixup_equals_torchvision(share: float) -> None:
    x, y = batch()
    lam, partner = torch.tensor([share]), torch.arange(COUNT).roll(1)
    params: dict[str, Any] = {"lam": share, "labels": y, "batch_size": COUNT}
    theirs = v2.MixUp(num_classes=CLASSES)
    got_x, got_y = mixup(x, y, lam, partner)
    torch.testing.assert_close(got_x, theirs.transform(x, params))
    torch.testing.assert_close(got_y, theirs._mixup_label(y, lam=share))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99, 1.0])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (15, 3), (8, 8), (2, 14)])
def test_cutmix_equals_torchvision(share: float, row: int, column: int) -> None:
    x, y = batch()
    theirs = v2.CutMix(num_classes=CLASSES)
    theirs._dist = torch.distributions.Uniform(0, 1)
    places = iter([torch.tensor([column]), torch.tensor([row])])
    with (
        patch.object(theirs._dist, "sample", lambda _: torch.tensor([share])),
        patch("torch.randint", lambda *_, **__: next(places)),
    ):
        params = theirs.make_params([x])
    params |= {"labels": y, "batch_size": COUNT}
    got_x, got_y = cutmix(
        x,
        y,
        torch.tensor([share]),
        torch.tensor([row]),
        torch.tensor([column]),
        torch.arange(COUNT).roll(1),
    )
    assert torch.equal(got_x, theirs.transform(x, params))
    torch.testing.assert_close(got_y, theirs._mixup_label(y, lam=params["lam_adjusted"]))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0, 8.0])
def test_lambda_follows_its_distribution(alpha: float) -> None:
    random = Random(5, "training")
    draws = torch.cat([beta(alpha, random) for _ in range(4000)]).double()
    assert float(draws.min()) >= 0
    assert float(draws.max()) <= 1
    assert stats.kstest(draws.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_lambda_is_the_uniform_number_for_alpha_1() -> None:
    torch.testing.assert_close(beta(1.0, Random(5, "training")), Random(5, "training").uniform(1))


@pytest.mark.parametrize("defense", [Mixup(), CutMix()])
def test_one_lambda_for_the_batch(defense: Defense) -> None:
    x, y = batch()
    y = torch.eye(COUNT)
    seen = set()
    for seed in range(20):
        got = defense.augment(MODEL, x, y, Random(seed, "training"))[1]
        own = got.diagonal()[got.diagonal() < 1]
        # An image that is its own partner keeps its target.
        assert torch.allclose(own, own[:1])
        seen.add(round(float(own[0]), 4))
    assert len(seen) > 10


def test_cutmix_leaves_the_other_batches_alone() -> None:
    x, y = batch()
    random = Random(6, "training")
    mixed = [
        not torch.equal(CutMix(probability=0.3).augment(MODEL, x, y, random)[0], x)
        for _ in range(300)
    ]
    assert 60 < sum(mixed) < 110


@pytest.mark.parametrize("std", [0.0, 0.03, 0.1])
def test_noise_is_normal(std: float) -> None:
    x, y = torch.full((20, 3, SIZE, SIZE), 0.5), torch.empty(0)
    noise = GaussianNoise(std=std).augment(MODEL, x, y, Random(2, "training"))[0] - 0.5
    if std == 0:
        assert not noise.any()
    else:
        assert stats.kstest(noise.flatten().numpy(), stats.norm(0, std).cdf).pvalue > 0.01
        assert float(noise.abs().max()) < math.inf
