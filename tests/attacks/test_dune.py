"""DUNE: the steps of the noise and of the swarm in float64, by loops from the recipe."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from attack_table import DUAL
from helpers import Tiny, make_harness, random_images
from numpy.typing import NDArray
from oracle_parts import pixels_of, slope_at
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Harness, ImageSet, Radius, Random, UserError, clean_checkpoints
from unlearnable_bench.attacks.dune import DUNE, _ssim
from unlearnable_bench.schedule import Training

Values = NDArray[np.float64]
SCHEDULE = Training(steps=6, batch_size=10, lr=0.05)  # of 25 images: 3 epochs of 2 updates
BASE = DUAL | {"checkpoints": 2}


def harness_for(**kwargs: Any) -> Harness:
    harness = make_harness(**kwargs)
    harness.training = SCHEDULE
    return harness


def attacked(networks: list[nn.Module], x: Tensor, y: Tensor, options: Any) -> Tensor:
    """Return images after steps of half a level down the sign of the mean gradient."""
    radius, found = float(options.rho_u), x.clone()
    for _ in range(options.steps):
        slopes = sum(slope_at(network, found, y) for network in networks) / len(networks)
        delta = (found - 0.5 / 255 * slopes.sign() - x).clamp(-radius, radius)
        found = (x + delta).clamp(0, 1)
    return found


def fitness(networks: list[nn.Module], x: Tensor, target: int, offset: Values) -> float:
    """Return the mean loss to the target over networks and images, and the mean penalties."""
    shifted = (x + torch.tensor(offset)[:, None, None]).clamp(0, 1)
    losses, penalties = [], []
    for network in networks:
        network.eval()
        with torch.no_grad():
            aims = torch.full((len(x),), target)
            losses.append(float(functional.cross_entropy(network(shifted), aims)))
    for one, other in zip(x.numpy(), shifted.numpy(), strict=True):
        psnr = peak_signal_noise_ratio(one, other, data_range=1)
        ssim = structural_similarity(one, other, channel_axis=0, data_range=1)
        penalties.append(max(0, 20 - psnr) + max(0, 0.8 - ssim))
    return float(np.mean(losses) + np.mean(penalties))


def swarmed(
    networks: list[nn.Module], x: Tensor, target: int, options: Any, random: Random
) -> Values:
    """Return the offset of a class, particle by particle."""
    count = options.particles
    place = random.uniform(count, 3, low=-0.1, high=0.1).double().numpy()
    speed = random.uniform(count, 3, low=-0.01, high=0.01).double().numpy()
    own, values = place.copy(), [np.inf] * count
    best, value, leader = place[0].copy(), np.inf, 0
    for _ in range(options.rounds):
        for k in range(count):
            now = fitness(networks, x, target, place[k])
            if now < values[k]:
                own[k], values[k] = place[k], now
            if now < value:
                best, value, leader = place[k].copy(), now, k
        pull = best if options.offset == "best" else place[leader].copy()
        for k in range(count):
            speed[k] = 0.5 * speed[k] + 0.3 * (own[k] - place[k]) + 0.3 * (pull - place[k])
        place = place + speed
    chosen = best if options.offset == "best" else place[leader]
    largest = float(options.colour)
    return np.clip(chosen, -largest, largest)


def poisoned_by_loops(images: ImageSet, options: Any, epochs: list[int]) -> Values:
    harness = harness_for()
    networks = [copy.deepcopy(n) for n in clean_checkpoints(images, harness, epochs)]
    random = harness.random("swarm")
    pixels, labels = pixels_of(images)
    x = pixels / 255
    noisy = attacked(networks, x, (labels + 3) % images.classes, options)
    exact = noisy.clone()
    for label in range(images.classes if options.colour else 0):
        members = [k for k in range(len(images)) if labels[k] == label][: options.searched]
        target = (label + 3) % images.classes
        offset = swarmed(networks, x[members], target, options, random)
        exact[labels == label] += torch.tensor(offset)[:, None, None]
    return 255 * exact.clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("changed", "epochs"),
    [
        ({}, [1, 3]),
        ({"checkpoints": 3}, [1, 2, 3]),
        ({"offset": "last"}, [1, 3]),
        ({"colour": Radius("3/255")}, [1, 3]),
        ({"colour": Radius("0"), "steps": 20}, [1, 3]),
        ({"rho_u": Radius("1/255"), "steps": 6, "rounds": 1}, [1, 3]),
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any], epochs: list[int]) -> None:
    options, images = DUNE(**BASE | changed), random_images(classes=4)
    poison = options.generate(images, harness_for())
    expected = poisoned_by_loops(images, options, epochs)
    assert np.abs(poison.images - expected).max() <= 0.5 + 1e-6
    assert poison.budget.excess(images.images, poison.images) is None


def test_the_budget_is_the_noise_and_the_offset() -> None:
    images = ImageSet(np.full((20, 8, 8, 3), 128, np.uint8), np.arange(20) % 4, 4)
    poison = DUNE(**BASE).generate(images, harness_for())
    assert str(poison.budget.radius) == "33/255"
    alone = DUNE(**BASE | {"colour": Radius("0")}).generate(images, harness_for())
    assert str(alone.budget.radius) == "8/255"
    assert alone.notes["largest_offset"] == 0
    assert 0 < poison.notes["largest_offset"] <= 25
    offsets = [poison.images[images.labels == k].mean((0, 1, 2)) for k in range(4)]
    assert all(np.abs(a - b).max() > 1 for a in offsets for b in offsets if a is not b)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_target_that_is_the_own_class_is_refused(classes: int) -> None:
    images = ImageSet(np.zeros((6, 8, 8, 3), np.uint8), np.zeros(6, np.int64), classes)
    with pytest.raises(UserError, match=rf"class \(y \+ 3\) mod {classes}, which is y itself"):
        DUNE().check(images)


def test_the_similarity_is_that_of_scikit_image() -> None:
    random = np.random.default_rng(0)
    one = random.random((4, 3, 9, 9))
    other = np.clip(one + 0.2 * random.standard_normal(one.shape), 0, 1)
    expected = [
        structural_similarity(*pair, channel_axis=0, data_range=1)
        for pair in zip(one, other, strict=True)
    ]
    found = _ssim(torch.tensor(one), torch.tensor(other))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_more_checkpoints_than_epochs_are_refused() -> None:
    images = random_images()
    with pytest.raises(UserError, match=r"dune\.checkpoints=4: the clean training has 3 epochs"):
        DUNE(**BASE | {"checkpoints": 4}).check_surrogate(images, Tiny(), SCHEDULE)
    DUNE(**BASE | {"checkpoints": 3}).check_surrogate(images, Tiny(), SCHEDULE)


def test_images_below_the_window_are_refused() -> None:
    with pytest.raises(UserError, match=r"windows of 7 px .* the images have 6 px"):
        DUNE().check(random_images(size=6, classes=4))
    DUNE(colour=Radius("0")).check(random_images(size=6, classes=4))
