"""EM and TAP through contrastive augmentations, in float64 by loops over the images."""

import colorsys
import math
from typing import Any

import attack_checks
import numpy as np
import pytest
import torch
from attack_table import AUGMENTED_AP, AUGMENTED_EM
from helpers import make_harness, random_images
from oracle_parts import SGD, added, colourful, pixels_of, quantised, view_of_each, windows
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Random, ResizedCrop, Transform
from unlearnable_bench.attacks._contrastive import contrastive_view
from unlearnable_bench.attacks.aap import AAP
from unlearnable_bench.attacks.aue import AUE
from unlearnable_bench.harness import ShuffledBatches
from unlearnable_bench.harness.colours import brightness, contrast, hue, saturation

PLAIN = Transform(2, flip=True)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("transform", [PLAIN, Transform(0, flip=False), ResizedCrop(6, flip=True)])
def test_the_view_is_that_of_torchvision(strength: float, transform: Any) -> None:
    x = pixels_of(colourful(40))[0] / 255
    found = contrastive_view(x, strength, transform, Random(3, "view"))
    expected = view_of_each(x, strength, transform, Random(3, "view"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # factors of grey in float32
    assert found.min() >= 0
    assert found.max() <= 1


def test_all_images_may_get_the_same_view_with_a_box_of_its_own_size() -> None:
    x = pixels_of(colourful(20))[0] / 255
    options: dict[str, Any] = {"area": 0.08, "alike": True}
    for draw in range(20):
        found, expected = (
            made(x, 1.0, PLAIN, Random(draw, "view"), **options)
            for made in (contrastive_view, view_of_each)
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_view_of_strength_0_is_the_image_or_its_mirror() -> None:
    x = pixels_of(colourful(40))[0] / 255
    views = contrastive_view(x, 0.0, PLAIN, Random(3, "view"))
    straight = (views - x).abs().amax((1, 2, 3)) < 1e-12
    mirrored = (views - x.flip(3)).abs().amax((1, 2, 3)) < 1e-12
    assert (straight ^ mirrored).all()
    assert straight.any()
    assert mirrored.any()


@pytest.mark.parametrize("change", [brightness, contrast, saturation])
def test_gradients_pass_at_black_and_white(change: Any) -> None:
    """Those of `torch.clamp` do until torch 2.13, and do not since 2.14."""
    x = torch.tensor([0.0, 1.0, 0.25]).expand(1, 3, 2, 3).clone().requires_grad_()
    changed = change(x, torch.ones(1))
    torch.testing.assert_close(changed, x)
    torch.testing.assert_close(torch.autograd.grad(changed.sum(), x)[0], torch.ones_like(x))


def test_hue_rotates_by_a_share_of_the_circle() -> None:
    red, grey = [1.0, 0.0, 0.0], [0.5, 0.5, 0.5]
    x = torch.tensor([red, red, grey, [0.2, 0.6, 0.4]], dtype=torch.float64)[:, :, None, None]
    found = hue(x, torch.tensor([1 / 3, -1 / 6, 0.3, 0.25], dtype=torch.float64)).squeeze()
    h, s, v = colorsys.rgb_to_hsv(0.2, 0.6, 0.4)
    turned = colorsys.hsv_to_rgb((h + 0.25) % 1, s, v)
    expected = torch.tensor([[0, 1, 0], [1, 0, 1], grey, turned], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def step_of_each(
    network: nn.Module, x: Tensor, y: Tensor, delta: Tensor, views: Any, radius: float, move: float
) -> Tensor:
    """Return the noise after a sign step, into the ball and then into the range of pixels."""
    network.eval()
    at = (x + delta).clone().requires_grad_()
    loss = functional.cross_entropy(network(views(at)), y, reduction="sum")
    moved = (delta + move * torch.autograd.grad(loss, at)[0].sign()).clamp(-radius, radius)
    return (x + moved).clamp(0, 1) - x


def views_of(options: Any, random: Random) -> Any:
    return lambda x: view_of_each(x, options.strength, PLAIN, random)


@pytest.mark.parametrize("changed", [{}, {"strength": 1.0}, {"batch_size": 40}, {"lr": 0.5}])
def test_aue_equals_its_transcription(changed: dict[str, Any]) -> None:
    options, images = AUE(**AUGMENTED_EM | changed), colourful()
    harness = make_harness()
    network = attack_checks.starting_network(harness, images)
    poison = options.generate(images, harness)

    pixels, labels = pixels_of(images)
    random, radius, count = Random(0, "generation"), float(options.rho_u), len(images)
    size = min(options.batch_size, count)
    order = ShuffledBatches(count, size, 0, "generation order", torch.device("cpu"))
    optimizer, noise, update = SGD(network, decay=1e-4), torch.zeros_like(pixels), 0
    views = views_of(options, random)
    for epoch in range(options.epochs):
        lowest = 1e-5 * options.lr
        cosine = 0.5 * (1 + math.cos(math.pi * epoch / options.epochs))
        for _ in range(count // size):
            batch = order[update]
            x = views(pixels[batch] / 255 + noise[batch])
            optimizer.step(x, labels[batch], lowest + (options.lr - lowest) * cosine)
            update += 1
        for batch, new in windows(count, size):
            x, y, delta = pixels[batch] / 255, labels[batch], noise[batch]
            for _ in range(options.noise_steps):
                delta = step_of_each(network, x, y, delta, views, radius, -radius / 10)
            noise[batch[:new]] = delta[:new]
    expected = added(images, quantised(noise, options.rho_u.levels))
    assert (poison.images == expected).mean() > 0.999
    attack_checks.check_budget(poison, images)


@pytest.mark.parametrize("changed", [{}, {"untargeted": True}, {"steps": 6}, {"epochs": 4}])
def test_aap_equals_its_transcription(changed: dict[str, Any]) -> None:
    options, images = AAP(**AUGMENTED_AP | changed), colourful()
    harness = make_harness()
    network = attack_checks.starting_network(harness, images)
    poison = options.generate(images, harness)

    pixels, labels = pixels_of(images)
    random, radius, count = Random(0, "generation"), float(options.rho_u), len(images)
    size = options.batch_size
    order = ShuffledBatches(count, size, 0, "generation order", torch.device("cpu"))
    optimizer, noise = SGD(network, decay=1e-4), torch.zeros_like(pixels)
    total = options.epochs * (count // size)
    views = views_of(options, random)
    for k in range(total):
        epoch, warm = k // (count // size), options.epochs // 4
        rising = (epoch + 1) / max(warm, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * (epoch - warm) / (options.epochs - warm)))
        batch = order[k]
        lr = options.lr * rising if epoch < warm else 1e-6 + (options.lr - 1e-6) * cosine
        optimizer.step(views(pixels[batch] / 255), labels[batch], lr)
    aims = labels if options.untargeted else (labels + 1) % images.classes
    move = 2.5 * radius / options.steps * (1 if options.untargeted else -1)
    for batch, new in windows(count, size):
        x, delta = pixels[batch] / 255, torch.zeros_like(pixels[batch])
        for _ in range(options.steps):
            delta = step_of_each(network, x, aims[batch], delta, views, radius, move)
        noise[batch[:new]] = delta[:new]
    expected = added(images, quantised(noise, options.rho_u.levels))
    assert (poison.images == expected).mean() > 0.999
    attack_checks.check_budget(poison, images)


def test_the_strength_follows_the_number_of_classes() -> None:
    ten, more = random_images(30, classes=10), random_images(30, classes=11)
    pairs = (
        (AUE(epochs=1, batch_size=10), 0.6, 1.0),
        (AAP(epochs=1, steps=2, batch_size=10), 0.4, 0.8),
    )
    for attack, few, many in pairs:
        for images, strength in ((ten, few), (more, many)):
            options = attack.option_values() | {"strength": strength}
            usual, given = (
                one.generate(images, make_harness()).images
                for one in (attack, type(attack)(**options))
            )
            np.testing.assert_array_equal(usual, given)
