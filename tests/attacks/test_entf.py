"""Entangled features equal their literal transcription, against a robust reference."""

import copy
from pathlib import Path
from typing import Any

import attack_checks
import numpy as np
import pytest
import torch
from helpers import Pooled, Tiny, make_harness, random_images
from oracle_parts import added, pixels_of, quantised, shifted_view, windows
from torch import nn

from unlearnable_bench import Harness, ImageSet, Radius, Random, ResizedCrop, UserError
from unlearnable_bench.attacks.entf import EntF
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.surrogate import clean_network
from unlearnable_bench.running.worker import harness_of
from unlearnable_bench.schedule import Training

SHORT = Training(steps=6, batch_size=4, lr=0.05, pgd_steps=2)
SMALL: dict[str, Any] = {"steps": 3, "batch_size": 5}


def harness_for(**changed: Any) -> Harness:
    harness = make_harness(**{"learner": Pooled()} | changed)
    harness.training = SHORT
    return harness


def poisoned_by_loops(
    network: nn.Module, images: ImageSet, attack: EntF, *, flip: bool
) -> np.ndarray:
    pixels, labels = pixels_of(images)
    x, count, radius = pixels / 255, len(images), float(attack.rho_u)
    length = radius / 20 if attack.alpha_u is None else float(attack.alpha_u)
    random, noise = Random(0, "generation"), torch.zeros_like(pixels)
    trunk = nn.Sequential(*[*network.children()][:-1]).eval()
    with torch.no_grad():
        seen = [trunk(x[i : i + 1])[0] for i in range(count)]
    centres = {}
    for label in sorted({*labels.tolist()}):
        own = [z for z, y in zip(seen, labels, strict=True) if y == label]
        centres[label] = torch.stack(own).mean(0)
    size, side = min(attack.batch_size, count), images.size
    for batch, new in windows(count, size):
        start = random.normal(size, 3, side, side).double()
        deltas = [(radius * start[row]).clamp(-radius, radius) for row in range(size)]
        for _ in range(attack.steps):
            by = random.uniform(2, size, low=-side / 8, high=side / 8).double()
            mirrors = random.integers(2, size).tolist() if flip else [0] * size
            for row, i in enumerate(batch):
                at = (x[i] + deltas[row]).requires_grad_()
                view = shifted_view(at, float(by[0, row]), float(by[1, row]), mirrors[row] == 1)
                z, label = trunk(view[None])[0], int(labels[i])
                if attack.variant == "push":
                    loss = -((z - centres[label]) ** 2).mean()
                else:
                    others = [c for other, c in centres.items() if other != label]
                    loss = min((((z - c) ** 2).mean() for c in others), key=float)
                slope = torch.autograd.grad(loss, at)[0]
                delta = (deltas[row] - length * slope.sign()).clamp(-radius, radius)
                deltas[row] = (x[i] + delta).clamp(0, 1) - x[i]
        for row in range(new):
            noise[batch[row]] = deltas[row]
    return added(images, quantised(noise, attack.rho_u.levels))


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize(
    ("changed", "given"),
    [
        ({}, {}),
        ({"variant": "pull"}, {}),
        ({"rho_a": Radius("0"), "rho_u": Radius("16/255")}, {"flip": False}),
        ({"alpha_u": Radius("3/255"), "variant": "pull", "batch_size": 40}, {}),
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any], given: dict[str, Any]) -> None:
    attack, images = EntF(**SMALL | changed), random_images(count=9, size=6)
    images = ImageSet(images.images, images.labels, 4)  # a class without images
    network = copy.deepcopy(clean_network(images, harness_for(**given), attack.rho_a).network)
    expected = poisoned_by_loops(network, images, attack, flip=given.get("flip", True))
    poison = attack.generate(images, harness_for(**given))
    assert (poison.images == expected).mean() > 0.9995
    attack_checks.check_budget(poison, images)


def test_the_reference_is_that_of_the_adversarial_schedule(tmp_path: Path) -> None:
    few = {"shapes.train": "40", "shapes.test": "10"}

    def planned(method: str, **changed: str) -> Any:
        settings = few | {name.replace("__", "."): value for name, value in changed.items()}
        plan = make_plan(methods=[method], preset="smoke", settings=settings, clean=False)
        return plan.cells[0].poison

    robust, usual = planned("entf"), planned("entf", entf__rho_a="0")
    assert (robust.training.epochs, usual.training.epochs) == (28, 12)  # of the preset
    own = planned("entf", surrogate__epochs="3", surrogate__pgd_steps="5", training__epochs="4")
    assert (own.training.epochs, own.training.pgd_steps) == (3, 5)
    assert robust.clean_network_key == robust.network_key(robust.training, Radius("4/255"))
    assert robust.clean_network_key != usual.clean_network_key
    assert planned("tap").clean_network_key == usual.clean_network_key
    harness = harness_of(robust, ResultsFolder(tmp_path, create=True), torch.device("cpu"))
    with pytest.raises(UserError, match="clean network of rho_a 0 and declares 4/255; return"):
        clean_network(robust.data.train, harness)


def test_what_it_cannot_use_is_refused() -> None:
    images = random_images()
    alone = ImageSet(images.images, np.zeros(25, np.int64), 3)
    with pytest.raises(UserError, match=r"two classes or more.*use --set entf\.variant=push"):
        EntF(variant="pull").check(alone)
    EntF().check(alone)
    with pytest.raises(UserError, match="Tiny gives no pooled features"):
        EntF().check_surrogate(images, Tiny(), SHORT)
    with pytest.raises(UserError, match="views' size, 6 px, not of 8 px"):
        EntF().check_run(images, ResizedCrop(6, flip=True), 0)


def test_a_step_costs_one_pass_of_each_image() -> None:
    assert EntF().image_passes(10) == 3000
