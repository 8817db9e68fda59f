"""Perturbation-induced linearisation: its two phases in float64, image by image."""

import math

import numpy as np
import pytest
import torch
from helpers import make_harness, random_images
from numpy.typing import NDArray

from unlearnable_bench import Harness, ImageSet, Radius
from unlearnable_bench.attacks.pil import PIL
from unlearnable_bench.images import Pixels

Field = NDArray[np.float64]


def softmax(z: Field) -> Field:
    powers = np.exp(z - z.max())
    result: Field = powers / powers.sum()
    return result


def trained_by_loops(attack: PIL, x: Field, labels: list[int], harness: Harness) -> Field:
    """Train the two linear layers by SGD with momentum, and return their product [C, D]."""
    start = harness.random("initialisation")
    classes = max(labels) + 1
    layers, moves = [], []
    for rows, columns in ((classes, x.shape[1]), (classes, classes)):
        bound = 1 / math.sqrt(columns)
        layers.append(start.uniform(rows, columns, low=-bound, high=bound).double().numpy())
        moves.append(np.zeros((rows, columns)))
    order = harness.random("order")
    for epoch in range(attack.epochs):
        lr = attack.lr * (1 + math.cos(math.pi * epoch / attack.epochs)) / 2
        turn = order.permutation(len(x)).tolist() if attack.shuffled else list(range(len(x)))
        for first in range(0, len(x), attack.batch_size):
            batch = turn[first : first + attack.batch_size]
            steps = [np.zeros_like(layer) for layer in layers]
            for k in batch:
                hidden = layers[0] @ x[k]
                error = softmax(layers[1] @ hidden)
                error[labels[k]] -= 1
                steps[0] += np.outer(layers[1].T @ error, x[k]) / len(batch)
                steps[1] += np.outer(error, hidden) / len(batch)
            for layer, move, step in zip(layers, moves, steps, strict=True):
                move[:] = 0.9 * move + step
                layer[:] = layer - lr * move
    return layers[1] @ layers[0]


def loss(delta: torch.Tensor, x: torch.Tensor, label: int, weights: torch.Tensor) -> torch.Tensor:
    """Return 0.9 CE(f(delta), y) + 0.1 KL(uniform || softmax f(x - delta))."""
    classes = len(weights)
    cross_entropy = -(weights @ delta).log_softmax(0)[label]
    share = 1 / classes
    divergence = sum(
        share * (math.log(share) - value) for value in (weights @ (x - delta)).log_softmax(0)
    )
    return 0.9 * cross_entropy + 0.1 * divergence  # type: ignore[no-any-return]


def poisoned_by_loops(attack: PIL, images: ImageSet, harness: Harness) -> Field:
    """Return the poison in levels before rounding."""
    x = images.images.transpose(0, 3, 1, 2).reshape(len(images), -1) / 255
    weights = torch.tensor(trained_by_loops(attack, x, images.labels.tolist(), harness))
    radius, random = float(attack.rho_u), harness.random("noise")
    out = np.empty_like(x)
    for first in range(0, len(x), 10):
        count = len(x[first : first + 10])
        drawn = random.uniform(10, x.shape[1], low=-radius, high=radius)[:count].double()
        for k, start in enumerate(drawn, start=first):
            delta = start.clone()
            for _ in range(attack.steps):
                at = delta.clone().requires_grad_()
                loss(at, torch.tensor(x[k]), int(images.labels[k]), weights).backward()
                assert at.grad is not None
                delta = (delta - radius / 10 * at.grad.sign()).clamp(-radius, radius)
            levels = np.rint(255 * -delta.numpy())
            out[k] = np.clip(255 * x[k] + levels, 0, 255)
    shape = (len(images), 3, images.size, images.size)
    return out.reshape(shape).transpose(0, 2, 3, 1)


SHORT = {"epochs": 3, "batch_size": 10, "steps": 4, "block": 10}


@pytest.mark.parametrize("shuffled", [True, False])
def test_equals_the_two_phases_image_by_image(shuffled: bool) -> None:
    attack, images = PIL(shuffled=shuffled, **SHORT), random_images(count=24, size=6)
    poison = attack.generate(images, make_harness(seed=3))
    expected = poisoned_by_loops(attack, images, make_harness(seed=3))
    assert (poison.images == np.rint(expected)).mean() > 0.999
    assert poison.budget.excess(images.images, poison.images) is None


def linear_accuracy(images: ImageSet, pixels: Pixels) -> float:
    """Train a linear classifier on `pixels` and return its accuracy on the clean images."""
    x = torch.tensor(pixels.reshape(len(images), -1) / 255.0)
    y = torch.tensor(images.labels)
    layer = torch.nn.Linear(x.shape[1], images.classes).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(x), y).backward()
        optimizer.step()
    clean = torch.tensor(images.images.reshape(len(images), -1) / 255.0)
    return float((layer(clean).argmax(1) == y).double().mean())


def test_a_linear_classifier_learns_the_noise_instead_of_the_images() -> None:
    """Images of which each class has a faint mean of its own, and strong noise."""
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    pattern = random.uniform(-12, 12, (3, 8, 8, 3))[labels]
    pixels = 128 + pattern + random.normal(0, 10, pattern.shape)
    images = ImageSet(np.clip(pixels, 0, 255).astype(np.uint8), labels, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        poison = PIL(epochs=30, batch_size=32, lr=0.02).generate(images, make_harness("fp32"))
        assert linear_accuracy(images, images.images) > 0.95
        assert linear_accuracy(images, poison.images) < 0.6


def test_noise_is_at_the_bound_almost_everywhere() -> None:
    images = ImageSet(np.full((30, 8, 8, 3), 128, np.uint8), np.arange(30) % 3, 3)
    poison = PIL(rho_u=Radius("4/255")).generate(images, make_harness("fp32"))
    change = np.abs(poison.images.astype(int) - 128)
    assert change.max() == 4
    assert (change == 4).mean() > 0.9
