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
from oracle_parts import SGD, added, draw_boxes, pixels_of, quantised, windows
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

from unlearnable_bench import ImageSet, Random, ResizedCrop, Transform
from unlearnable_bench.attacks._contrastive import contrastive_view
from unlearnable_bench.attacks.aap import AAP
from unlearnable_bench.attacks.aue import AUE
from unlearnable_bench.harness import ShuffledBatches
from unlearnable_bench.harness.colours import hue

PLAIN = Transform(2, flip=True)


def colourful(count: int = 25, size: int = 8, seed: int = 0) -> ImageSet:
    """Return images whose pixels have three different values, so that hue has a derivative."""
    random = np.random.default_rng(seed)
    channels = random.permuted(np.tile([0, 60, 120], (count, size, size, 1)), axis=3)
    values = channels + random.integers(40, 90, (count, size, size, 3))
    return ImageSet(values.astype(np.uint8), random.integers(3, size=count), 3)


def turned(image: Tensor, shift: float) -> Tensor:
    """Return an image with another hue, as colorsys does it; torchvision's has no derivative."""
    r, g, _ = image
    v, low = image.max(0).values, image.min(0).values
    s, (rc, gc, bc) = (v - low) / v, (v - image) / (v - low)
    h = torch.where(r == v, bc - gc, torch.where(g == v, 2.0 + rc - bc, 4.0 + gc - rc))
    h = 6 * ((h / 6 + shift) % 1.0)
    part = h - h.floor()
    p, q, t = v * (1 - s), v * (1 - s * part), v * (1 - s * (1 - part))
    rows = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)]
    sectors = torch.stack([torch.stack(row) for row in rows])
    return sectors.gather(0, (h.floor().long() % 6).expand(1, *image.shape))[0]


def view_of_each(x: Tensor, strength: float, transform: Any, random: Random) -> Tensor:
    """Return A(x) by the recipe, image by image."""
    side = x.shape[3]
    crop = ResizedCrop(crop=transform.view(side), flip=True, area=max(1 - 0.9 * strength, 0.05))
    boxes = draw_boxes(len(x), side, crop, random)
    change = random.uniform(4, len(x), low=-1.0, high=1.0).double() * strength
    jitter, grey = random.uniform(2, len(x)).tolist()
    found = []
    for k, box in enumerate(boxes):
        top, left, height, width, flip, size = box
        view = vision.resized_crop(x[k], top, left, height, width, [size, size], antialias=True)
        view = view.flip(2) if flip and transform.flip else view
        if jitter[k] < min(0.99, 0.8 * strength):
            b, c, s, h = change[:, k].tolist()
            view = vision.adjust_brightness(view, 1 + 0.4 * b)
            view = vision.adjust_contrast(view, 1 + 0.4 * c)
            view = vision.adjust_saturation(view, 1 + 0.4 * s)
            view = turned(view, 0.1 * h)
        if grey[k] < 0.2 * strength:
            view = vision.rgb_to_grayscale(view, 3)
        found.append(view)
    return torch.stack(found)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("transform", [PLAIN, Transform(0, flip=False), ResizedCrop(6, flip=True)])
def test_the_view_is_that_of_torchvision(strength: float, transform: Any) -> None:
    x = pixels_of(colourful(40))[0] / 255
    found = contrastive_view(x, strength, transform, Random(3, "view"))
    expected = view_of_each(x, strength, transform, Random(3, "view"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # factors of grey in float32
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_view_of_strength_0_is_the_image_or_its_mirror() -> None:
    x = pixels_of(colourful(40))[0] / 255
    views = contrastive_view(x, 0.0, PLAIN, Random(3, "view"))
    straight = (views - x).abs().amax((1, 2, 3)) < 1e-12
    mirrored = (views - x.flip(3)).abs().amax((1, 2, 3)) < 1e-12
    assert (straight ^ mirrored).all()
    assert straight.any()
    assert mirrored.any()


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
