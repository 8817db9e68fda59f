"""MI-UE equals its literal transcription, and refuses what has no features."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import attack_checks
import numpy as np
import pytest
import torch
from helpers import Linear, Pooled, Tiny, make_harness, random_images
from oracle_parts import SGD, added, ascend, pixels_of, quantised, windows
from torch import Tensor, nn

from unlearnable_bench import ImageSet, Random, UserError
from unlearnable_bench.attacks.mi_ue import MIUE
from unlearnable_bench.harness import ShuffledBatches
from unlearnable_bench.learners import Normalise
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.radius import Radius
from unlearnable_bench.schedule import Training


@dataclass(frozen=True, kw_only=True)
class Centred(Pooled):
    """`Pooled` that subtracts 0.5 first, as the built-in learners do."""

    def build(self, classes: int, size: int) -> nn.Module:
        return nn.Sequential(Normalise(), *super().build(classes, size).children())


SMALL: dict[str, Any] = {"epochs": 2, "noise_steps": 2, "batch_size": 4, "sweep_size": 5}


def loss_by_loops(z: Tensor, y: list[int], temperature: float, zeta: float) -> Tensor:
    """Every pair of images by itself; the distance of an image from itself is left out."""
    terms = []
    for i in range(len(z)):
        weights = [torch.exp(torch.cosine_similarity(z[i], a, dim=0) / temperature) for a in z]
        own = [w for w, label in zip(weights, y, strict=True) if label == y[i]]
        term = -torch.log(torch.stack(own).sum() / torch.stack(weights).sum())
        others = [z[j] for j in range(len(z)) if y[j] == y[i] and j != i]
        distances = sum(torch.linalg.vector_norm(z[i] - other) for other in others)
        terms.append(term + zeta * torch.log1p(distances / z.shape[1] + 0 * term))
    return torch.stack(terms).mean()


def poisoned_by_loops(
    network: nn.Module, images: ImageSet, attack: MIUE, seed: int, *, flip: bool
) -> np.ndarray:
    pixels, labels = pixels_of(images)
    x, count, radius = pixels / 255, len(images), float(attack.rho_u)
    first = radius / 40 if attack.alpha_u is None else float(attack.alpha_u)
    final = radius / 2 / attack.noise_steps
    if attack.last_alpha_u is not None:
        final = float(attack.last_alpha_u)
    draws, size = Random(seed, "mirrors"), min(attack.batch_size, count)
    order = ShuffledBatches(count, size, seed, "surrogate order", torch.device("cpu"))
    optimizer, noise, k = SGD(network, decay=1e-4), torch.zeros_like(x), 0
    trunk = nn.Sequential(*[*network.children()][:-1])

    def mirrors(number: int) -> list[bool]:
        return [bool(m) for m in draws.integers(2, number)] if flip else [False] * number

    def turned(image: Tensor, mirror: bool) -> Tensor:
        return image.flip(2) if mirror else image

    for epoch in range(attack.epochs):
        last = min(1e-6, attack.lr)
        lr = last + (attack.lr - last) * (1 + math.cos(math.pi * epoch / attack.epochs)) / 2
        for _ in range(count // size):
            batch, turns = order[k].tolist(), mirrors(size)
            own = attack.variant == "aligned"
            seen = [
                turned(x[i], m) + turned(noise[i], m and own)
                for i, m in zip(batch, turns, strict=True)
            ]
            at = torch.stack(seen)
            if attack.rho_a is not None:
                pgd = float(attack.rho_a), 10, attack.alpha_a
                at = ascend(network, at, labels[batch], None, *pgd)
            optimizer.step(at, labels[batch], lr)
            k += 1
        network.eval()
        left = (attack.epochs - epoch) / attack.epochs
        step = left * (first - final) + final
        turn = Random(seed, f"noise order/epoch {epoch}").permutation(count).tolist()
        for places, new in windows(count, min(attack.sweep_size, count)):
            batch = [turn[place] for place in places]
            turns = mirrors(len(batch))
            own = attack.variant == "aligned"
            view = torch.stack([turned(x[i], m) for i, m in zip(batch, turns, strict=True)])
            delta = torch.stack(
                [turned(noise[i], m and own) for i, m in zip(batch, turns, strict=True)]
            )
            for _ in range(attack.noise_steps):
                at = (view + delta).requires_grad_()
                loss = loss_by_loops(
                    trunk(at), labels[batch].tolist(), attack.temperature, attack.zeta
                )
                slope = torch.autograd.grad(loss, at)[0]
                delta = (delta - step * slope.sign()).clamp(-radius, radius)
                delta = (view + delta).clamp(0, 1) - view
            for row in range(new):
                noise[batch[row]] = turned(delta[row], turns[row] and own)
    return added(images, quantised(noise, attack.rho_u.levels))


@pytest.mark.parametrize(
    ("changed", "flip"),
    [
        ({}, True),
        ({"variant": "misaligned"}, True),
        ({}, False),
        ({"zeta": 0.0}, True),
        ({"zeta": 20.0}, True),
        ({"temperature": 0.5, "rho_u": Radius("16/255"), "sweep_size": 20}, True),
        ({"alpha_u": Radius("3/255"), "rho_u": Radius("4/255"), "lr": 0.0}, True),
        ({"alpha_u": Radius("0"), "last_alpha_u": Radius("2/255"), "epochs": 3}, True),
        ({"rho_a": Radius("8/255")}, True),
        ({"rho_a": Radius("4/255"), "alpha_a": Radius("8/255"), "variant": "misaligned"}, True),
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any], *, flip: bool) -> None:
    attack, images = MIUE(**SMALL | changed), random_images(count=11, size=6)
    harness = make_harness(flip=flip, learner=Centred())
    network = attack_checks.starting_network(harness, images).network
    assert isinstance(network, nn.Module)
    expected = poisoned_by_loops(network, images, attack, 0, flip=flip)
    poison = attack.generate(images, harness)
    assert (poison.images == expected).mean() > 0.9995
    attack_checks.check_budget(poison, images)


def test_the_loss_is_that_of_two_pairs_by_hand() -> None:
    """Orthogonal features, two images of each class at equal places: e^10 against 1."""
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1])
    expected = math.log((2 * math.e**10 + 2) / (2 * math.e**10))
    assert float(MIUE().loss(z, y)) == pytest.approx(expected, rel=1e-12)
    # At a distance of 2 within the second class only: log(1 + 2/2) for two of four images.
    z[3, 1] = 4.0
    assert float(MIUE().loss(z, y)) == pytest.approx(expected + 0.1 * math.log(2) / 2, rel=1e-9)


def test_equal_features_have_a_finite_gradient() -> None:
    z, y = torch.ones(6, 5), torch.tensor([0, 0, 0, 1, 1, 1])
    gradient = torch.func.grad(lambda features: MIUE(zeta=1.0).loss(features, y))(z)
    assert gradient.isfinite().all()


def test_the_misaligned_noise_is_another_only_if_views_are_mirrored() -> None:
    images = random_images()

    def made(variant: Any, *, flip: bool) -> np.ndarray:
        harness = make_harness(flip=flip, learner=Pooled())
        return MIUE(**SMALL, variant=variant).generate(images, harness).images

    assert (made("aligned", flip=True) != made("misaligned", flip=True)).mean() > 0.1
    np.testing.assert_array_equal(made("aligned", flip=False), made("misaligned", flip=False))


def test_features_of_one_class_come_together() -> None:
    images, harness = random_images(60), make_harness("fp32", flip=False, learner=Pooled())
    features = harness.features(harness.network(images))
    y = torch.tensor(images.labels)

    def loss(pixels: np.ndarray) -> float:
        x = torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            return float(MIUE().loss(features(x), y))

    attack = MIUE(epochs=5, lr=0.0, alpha_u=Radius("1/255"))
    assert loss(attack.generate(images, harness).images) < 0.95 * loss(images.images)


@pytest.mark.parametrize("learner", [Tiny(), Linear()])
def test_an_architecture_without_features_is_refused(learner: Any) -> None:
    """Both end in a gain behind their last linear layer."""
    images = random_images()
    for refuse in (
        lambda: MIUE().check_surrogate(images, learner, Training()),
        lambda: MIUE(**SMALL).generate(images, make_harness(learner=learner)),
    ):
        with pytest.raises(UserError, match=r"gives no pooled features.*--surrogate resnet18"):
            refuse()


def test_it_is_refused_in_the_plan() -> None:
    few = {"shapes.train": "40", "shapes.test": "10", "mi-ue.alpha_u": "0"}
    make_plan(methods=["mi-ue"], preset="smoke", settings=few)
    few["mi-ue.last_alpha_u"] = "0"
    with pytest.raises(UserError, match=r"mi-ue\.last_alpha_u=0: the noise starts at 0"):
        make_plan(methods=["mi-ue"], preset="smoke", settings=few)


def test_step_sizes_of_pgd_without_pgd_are_refused() -> None:
    few = {"shapes.train": "40", "shapes.test": "10", "mi-ue.alpha_a": "2/255"}
    with pytest.raises(UserError, match=r"mi-ue\.alpha_a has no effect.*if rho_a is above 0"):
        make_plan(methods=["mi-ue"], preset="smoke", settings=few)


def test_step_sizes_rise_as_in_the_code_of_the_authors() -> None:
    """0.2/255 in the first of 100 sweeps, 0.2 + 0.99 * 0.2 in the last: on a grid of 0.002/255."""
    attack = MIUE()
    assert [255 * attack._step_size(epoch) for epoch in (0, 50, 99)] == [
        Fraction(2, 10),
        Fraction(3, 10),
        Fraction(398, 1000),
    ]
    assert 255 * attack._grid() == Fraction(2, 1000)
    constant = MIUE(last_alpha_u=Radius("0.2/255"))
    assert 255 * constant._grid() == 255 * constant._step_size(99) == Fraction(1, 5)


def test_an_epoch_costs_eleven_passes_of_each_image_and_ten_more_with_pgd() -> None:
    assert MIUE().image_passes(128 * 391) == 100 * 391 * 128 * 11
    assert MIUE(rho_a=Radius("8/255")).image_passes(128 * 391) == 100 * 391 * 128 * 21
