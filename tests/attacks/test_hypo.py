"""Hypocritical perturbations in float64, by loops over images from the recipe."""

from typing import Any

import attack_checks
import numpy as np
import pytest
import torch
from attack_table import EASIER
from helpers import make_harness, random_images
from oracle_parts import (
    SGD,
    added,
    ascend,
    draw_uniform,
    draw_views,
    middle,
    pixels_of,
    quantised,
    shifted_view,
    slope_at,
    windows,
)
from torch import Tensor, nn

from unlearnable_bench import Budget, ImageSet, Radius, Random
from unlearnable_bench.attacks.hypo import HYPO
from unlearnable_bench.harness import ShuffledBatches

STANDARD = Radius("0")


def made_easier(network: nn.Module, images: ImageSet, transform: Any, options: Any) -> Tensor:
    """Return the noise: train the network, then descend the loss of the true label."""
    pixels, labels = pixels_of(images)
    random, count = Random(0, "generation"), len(images)
    size = min(options.batch_size, count)
    order = ShuffledBatches(count, size, 0, "generation order", torch.device("cpu"))
    optimizer, noise = SGD(network), torch.zeros_like(pixels)
    adversary = float(options.adversary)
    for k in range(options.epochs * (count // size)):
        batch = order[k].tolist()
        views = draw_views(size, transform, random)
        x = torch.stack([views[row].of(pixels[i] / 255) for row, i in enumerate(batch)])
        if adversary:
            start = draw_uniform(tuple(x.shape), adversary, random)
            quarter = Radius(f"{adversary * 255 / 4}/255")
            x = ascend(network, x, labels[batch], start, adversary, options.attack_steps, quarter)
        optimizer.step(x, labels[batch], options.lr)
    for batch, new in windows(count, size):
        x, y, delta = pixels[batch] / 255, labels[batch], torch.zeros_like(pixels[batch])
        for _ in range(options.steps):
            if options.norm is None:
                side = x.shape[3]
                by = random.uniform(2, size, low=-side / 8, high=side / 8).double()
                mirrors = random.integers(2, size) == 1 if transform.flip else by[0] > side
                at = (x + delta).requires_grad_()
                seen = [shifted_view(at[k], *by[:, k].tolist(), mirrors[k]) for k in range(size)]
                seen = torch.stack([middle(view, transform) for view in seen])
                outer = slope_at(network, seen.detach(), y)
                slopes = torch.autograd.grad(seen, at, outer)[0]
            else:
                seen = torch.stack([middle(x[k] + delta[k], transform) for k in range(size)])
                slopes = slope_at(network, seen, y)
            for k in range(size):
                if options.norm is None:
                    radius = float(options.rho_u)
                    moved = delta[k] - radius / 10 * slopes[k].sign()
                    moved = moved.clamp(-radius, radius)
                else:
                    unit = slopes[k] / (slopes[k] ** 2).sum().sqrt()
                    moved = delta[k] - options.norm / 5 * unit
                    moved = moved / max(1.0, float((moved**2).sum().sqrt()) / options.norm)
                delta[k] = (x[k] + moved).clamp(0, 1) - x[k]
        for k in range(new):
            noise[batch[k]] = delta[k]
    return noise


@pytest.mark.parametrize(
    ("changed", "transform"),
    [
        ({}, {}),
        ({"steps": 14}, {"pad": 0, "flip": False}),
        ({"adversary": STANDARD}, {}),
        ({"adversary": Radius("16/255"), "attack_steps": 3}, {"flip": False}),
        ({}, {"crop": 6}),
        ({"norm": 0.5, "adversary": STANDARD, "steps": 8}, {}),
        ({"norm": 0.2, "batch_size": 40}, {}),
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any], transform: dict[str, Any]) -> None:
    options, images = HYPO(**EASIER | changed), random_images()
    harness = make_harness(**transform)
    network = attack_checks.starting_network(harness, images)
    noise = made_easier(network, images, harness.transform, options)
    poison = options.generate(images, harness)
    levels = 255 if options.norm else options.rho_u.levels
    np.testing.assert_array_equal(poison.images, added(images, quantised(noise, levels)))
    assert poison.budget.excess(images.images, poison.images) is None


def test_the_noise_of_the_l2_form_has_the_norm() -> None:
    pixels = np.random.default_rng(0).integers(100, 156, (20, 8, 8, 3)).astype(np.uint8)
    images = ImageSet(pixels, np.arange(20) % 2, 2)
    poison = HYPO(**EASIER | {"norm": 2.0, "steps": 12}).generate(images, make_harness())
    assert poison.budget == Budget("l2", 2.0)
    change = (poison.images.astype(float) - pixels) / 255
    np.testing.assert_allclose(np.sqrt((change**2).sum((1, 2, 3))), 2.0, rtol=0.02)


def test_the_images_become_easier() -> None:
    images, harness = random_images(60), make_harness(pad=0, flip=False)
    attack = HYPO(epochs=6, batch_size=20, steps=40, attack_steps=2, rho_u=Radius("64/255"))
    poison = attack.generate(images, harness)
    network = harness.learner.built[-1].eval()  # type: ignore[attr-defined]

    def loss(pixels: np.ndarray) -> float:
        x = torch.tensor(pixels).permute(0, 3, 1, 2).double() / 255
        with torch.no_grad():
            return float(nn.functional.cross_entropy(network(x), torch.tensor(images.labels)))

    assert loss(poison.images) < 0.9 * loss(images.images)
