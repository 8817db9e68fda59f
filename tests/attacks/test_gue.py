"""Game unlearnable examples: the steps of generator and classifier in float64, by the recipe."""

import copy
import math
from typing import Any

import attack_checks
import numpy as np
import pytest
import torch
from attack_table import GAME
from helpers import make_harness, random_images
from oracle_parts import added, pixels_of, quantised
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import ImageSet, Random, UserError
from unlearnable_bench.attacks import gue
from unlearnable_bench.attacks._unet import UNet, _enlarged
from unlearnable_bench.attacks.gue import GUE
from unlearnable_bench.harness import ShuffledBatches


def worst_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Return f: the mean over images of the largest CE to a label that is not theirs."""
    losses = []
    for scores, label in zip(logits, labels.tolist(), strict=True):
        wrong = [k for k in range(len(scores)) if k != label]
        each = [functional.cross_entropy(scores[None], torch.tensor([k])) for k in wrong]
        losses.append(max(each))
    return torch.stack(losses).mean()


def played(classifier: nn.Module, generator: nn.Module, images: ImageSet, options: Any) -> Tensor:
    """Return the noise after BOME's first-order steps, one batch after another."""
    pixels, labels = pixels_of(images)
    radius, count = float(options.rho_u), len(images)
    size = min(options.batch_size, count)
    order = ShuffledBatches(count, size, 0, "generation order", torch.device("cpu"))
    classifier.train()
    generator.train()
    for k in range(options.epochs * (count // size)):
        x, y = pixels[order[k]] / 255, labels[order[k]]
        theta, alpha = list(classifier.parameters()), list(generator.parameters())
        follower = copy.deepcopy(classifier)
        adam = torch.optim.Adam(follower.parameters(), lr=options.inner_lr)
        for _ in range(options.inner_steps):
            adam.zero_grad()
            poisoned = (x + radius * generator(x)).clamp(0, 1).detach()
            functional.cross_entropy(follower(poisoned), y).backward()
            adam.step()
        q = functional.cross_entropy(classifier((x + radius * generator(x)).clamp(0, 1)), y)
        q = q - functional.cross_entropy(follower((x + radius * generator(x)).clamp(0, 1)), y)
        q_theta = torch.autograd.grad(q, theta, retain_graph=True)
        q_alpha = torch.autograd.grad(q, alpha)
        f_theta = torch.autograd.grad(worst_wrong(classifier(x), y), theta)
        square = sum(float((g**2).sum()) for g in (*q_theta, *q_alpha))
        along = sum(float((a * b).sum()) for a, b in zip(f_theta, q_theta, strict=True))
        factor = max(0.0, (options.eta * square - along) / (square + 1e-8))
        with torch.no_grad():
            for w, up, down in zip(theta, f_theta, q_theta, strict=True):
                w.copy_(w - options.lr * (up + factor * down))
            for w, down in zip(alpha, q_alpha, strict=True):
                w.copy_(w - options.generator_lr * factor * down)
    generator.eval()
    with torch.no_grad():
        noise: Tensor = radius * generator(pixels / 255)
    return noise


def start_by_fan_out(network: nn.Module, random: Random) -> None:
    """N(0, 2 / (outputs * height * width of the kernel)) for each convolution; no linear bias."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            outputs, height, width = len(layer.weight), *layer.weight.shape[2:]
            drawn = random.normal(*layer.weight.shape).double()
            layer.weight.data = drawn * (2 / (outputs * height * width)) ** 0.5
        if isinstance(layer, nn.Linear):
            layer.bias.data = torch.zeros(len(layer.bias), dtype=torch.float64)


@pytest.mark.parametrize(
    "changed",
    [{}, {"inner_steps": 1, "inner_lr": 0.1}, {"eta": 0.0}, {"lr": 0.2}, {"generator_lr": 2.0}],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any]) -> None:
    options, images = GUE(**GAME | changed), random_images()
    harness = make_harness()
    classifier = attack_checks.starting_network(harness, images)
    start_by_fan_out(classifier, Random(0, "weights"))
    generator = copy.deepcopy(gue._generator(options.width, make_harness()))
    poison = options.generate(images, harness)
    noise = played(classifier, generator, images, options)
    np.testing.assert_array_equal(
        poison.images, added(images, quantised(noise, options.rho_u.levels))
    )
    attack_checks.check_budget(poison, images)


def test_the_generator_changes_with_its_learning_rate() -> None:
    images = random_images()
    still, moved = (
        GUE(**GAME | {"generator_lr": lr}).generate(images, make_harness()).images
        for lr in (0.0, 2.0)
    )
    assert (still != moved).mean() > 0.02


@pytest.mark.parametrize("size", [8, 11, 32])
def test_the_u_net_makes_noise_of_the_size_of_its_images(size: int) -> None:
    torch.manual_seed(0)
    noise = UNet(4)(torch.rand(3, 3, size, size))
    assert noise.shape == (3, 3, size, size)
    assert noise.abs().max() <= 1
    assert noise.std() > 0.1  # BatchNorm before tanh


def test_enlarging_is_bilinear() -> None:
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    expected = functional.interpolate(x, (8, 11), mode="bilinear", align_corners=True)
    torch.testing.assert_close(_enlarged(x, 8, 11), expected)


def test_the_least_likely_wrong_label_counts() -> None:
    """Softmax of (ln 2, ln 1, ln 5): 1/4, 1/8, 5/8; the label itself may be the least likely."""
    logits = torch.tensor([[2.0, 1.0, 5.0], [2.0, 1.0, 5.0]]).log()
    loss = gue._least_likely(logits, torch.tensor([0, 1]))
    assert float(loss) == pytest.approx((math.log(8) + math.log(4)) / 2)


def test_images_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(UserError, match="takes 8 px or more; these have 7 px"):
        GUE().check(random_images(size=7))
    GUE().check(random_images(size=8))
