"""Self-ensemble protection equals its literal transcription, and refuses what it cannot use."""

import copy
from typing import Any

import attack_checks
import numpy as np
import pytest
import torch
from helpers import Pooled, Tiny, make_harness, random_images
from oracle_parts import added, pixels_of, quantised, slope_at, windows
from torch import Tensor, nn

from unlearnable_bench import Harness, ImageSet, Radius, Random, ResizedCrop, UserError
from unlearnable_bench.attacks.sep import SEP
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.running.surrogate import clean_checkpoints
from unlearnable_bench.schedule import Training

SHORT = Training(steps=None, epochs=7, batch_size=4, lr=0.05)
SMALL: dict[str, Any] = {"checkpoints": 3, "steps": 3, "draws": 4, "batch_size": 5, "shift": 2}


def harness_for(learner: Any = None) -> Harness:
    harness = make_harness(learner=learner or Pooled())
    harness.training = SHORT
    return harness


def poisoned_by_loops(  # noqa: C901 - in one piece, to be read beside the paper
    networks: list[nn.Module], images: ImageSet, attack: SEP
) -> np.ndarray:
    pixels, labels = pixels_of(images)
    x, count, radius = pixels / 255, len(images), float(attack.rho_u)
    length, classes = float(attack.alpha_u), images.classes
    random, noise = Random(0, "generation"), torch.zeros_like(pixels)
    trunks = [nn.Sequential(*[*network.children()][:-1]).eval() for network in networks]
    shift = classes // 2 if attack.shift is None else attack.shift
    centres: list[list[Tensor]] = []
    for trunk in trunks:
        with torch.no_grad():
            seen = [trunk(x[i : i + 1])[0] for i in range(count)]
        own = [[z for z, y in zip(seen, labels, strict=True) if y == c] for c in range(classes)]
        centres.append([sum(zs) / len(zs) if zs else torch.zeros(0) for zs in own])  # type: ignore[misc, call-overload]

    def slope(j: int, at: Tensor, target: int, aim: int) -> Tensor:
        if attack.variant == "plain":
            return slope_at(networks[j], at[None], torch.tensor([target]))[0]
        leaf = at.clone().requires_grad_()
        loss = ((trunks[j](leaf[None])[0] - centres[aim][target]) ** 2).mean()
        return torch.autograd.grad(loss, leaf)[0]

    def moved(i: int, delta: Tensor, direction: Tensor) -> Tensor:
        delta = (delta - length * direction.sign()).clamp(-radius, radius)
        return (x[i] + delta).clamp(0, 1) - x[i]

    for batch, new in windows(count, min(attack.batch_size, count)):
        deltas = [torch.zeros_like(x[i]) for i in batch]
        for _ in range(attack.steps):
            reduced = attack.variant == "fa-vr"
            drawn = [int(random.integers(len(networks), 1)) for _ in range(attack.draws * reduced)]
            for row, i in enumerate(batch):
                target = (int(labels[i]) + shift) % classes
                at = x[i] + deltas[row]
                each = [slope(j, at, target, j) for j in range(len(networks))]
                direction = mean = sum(each) / len(each)
                if drawn:
                    inner, direction = deltas[row], torch.zeros_like(deltas[row])
                    for j in drawn:
                        aim = j if attack.inner_target == "own" else len(networks) - 1
                        g = slope(j, x[i] + inner, target, aim)
                        direction = direction + g - (each[j] - mean)
                        inner = moved(i, inner, direction)
                deltas[row] = moved(i, deltas[row], direction)
        for row in range(new):
            noise[batch[row]] = deltas[row]
    return added(images, quantised(noise, attack.rho_u.levels))


@pytest.mark.parametrize(
    "changed",
    [
        {"variant": "plain"},
        {"variant": "plain", "shift": None, "alpha_u": Radius("3/255"), "rho_u": Radius("4/255")},
        {"variant": "fa"},
        {"variant": "fa", "checkpoints": 7, "batch_size": 40},
        {},
        {"inner_target": "last"},
        {"checkpoints": 1, "shift": 1, "draws": 1},
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any]) -> None:
    attack, images = SEP(**SMALL | changed), random_images(count=13, size=6)
    count = attack.checkpoints
    assert count
    # Every seventh part of seven epochs, rounded down: 2, 4 and 7 for three.
    epochs = {1: [7], 3: [2, 4, 7], 7: [1, 2, 3, 4, 5, 6, 7]}[count]
    networks = [
        copy.deepcopy(one.network) for one in clean_checkpoints(images, harness_for(), epochs)
    ]
    expected = poisoned_by_loops(networks, images, attack)
    poison = attack.generate(images, harness_for())
    assert (poison.images == expected).mean() > 0.9995
    attack_checks.check_budget(poison, images)


def test_the_bug_of_the_last_target_changes_the_noise() -> None:
    images = random_images(count=13, size=6)
    own, last = (
        SEP(**SMALL, inner_target=target).generate(images, harness_for()).images
        for target in ("own", "last")
    )
    assert (own != last).mean() > 0.01


def test_the_default_target_is_half_of_the_classes_on() -> None:
    found = {classes: SEP()._shift(classes) for classes in (2, 3, 4, 5, 10, 100)}
    assert found == {2: 1, 3: 1, 4: 2, 5: 2, 10: 5, 100: 50}
    assert SEP(shift=3)._shift(10) == 3


def test_targets_are_checked() -> None:
    images = random_images()
    for shift in (3, 6):
        with pytest.raises(UserError, match=rf"sep\.shift={shift} targets an image's own class"):
            SEP(shift=shift).check(images)
    alone = ImageSet(images.images, np.zeros(25, np.int64), 1)
    with pytest.raises(UserError, match="targets an image's own class, of 1"):
        SEP().check(alone)
    two = ImageSet(images.images, np.arange(25) % 2, 3)
    with pytest.raises(UserError, match=r"has no image of class 2; use --set sep\.variant=plain"):
        SEP(shift=1).check(two)
    SEP(shift=1, variant="plain").check(two)


def test_too_short_a_training_is_refused_in_the_plan() -> None:
    few = {"surrogate.epochs": "3", "shapes.train": "40", "shapes.test": "10"}
    words = r"takes 4 networks .* has 3 epochs; use --set sep\.checkpoints=3 or fewer"
    with pytest.raises(UserError, match=words):
        make_plan(methods=["sep"], preset="smoke", settings=few)
    make_plan(methods=["sep"], preset="smoke", settings=few | {"sep.checkpoints": "3"})


def test_a_step_size_of_0_is_refused() -> None:
    with pytest.raises(UserError, match=r"sep\.alpha_u=0: the noise starts at 0"):
        SEP(alpha_u=Radius("0")).check(random_images())


def test_features_are_needed_for_features_only() -> None:
    images = random_images()
    with pytest.raises(UserError, match="Tiny gives no pooled features"):
        SEP(checkpoints=2).check_surrogate(images, Tiny(), SHORT)
    SEP(checkpoints=2, variant="plain").check_surrogate(images, Tiny(), SHORT)


def test_smaller_views_are_refused() -> None:
    with pytest.raises(UserError, match=r"views' size, 6 px, not of 8 px.*imagenet-subset.size=6"):
        SEP().check_run(random_images(), ResizedCrop(6, flip=True), 0)


def test_passes_are_those_of_ensemble_and_draws() -> None:
    """31 gradients a step for 15 networks and 16 draws."""
    assert SEP().image_passes(10) == 10 * 30 * 31
    assert SEP(variant="fa").image_passes(10) == 10 * 30 * 30
