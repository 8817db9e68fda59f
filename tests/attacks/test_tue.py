"""Transferable unlearnable examples: the descent on the class separation in float64, by loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_harness, random_images
from oracle_parts import discriminant

from unlearnable_bench import Harness, ImageSet, Radius, load_records, make_plan, run
from unlearnable_bench.attacks.tue import TUE


def poisoned_by_loops(attack: TUE, images: ImageSet, harness: Harness) -> np.ndarray:
    x = torch.tensor(images.images).permute(0, 3, 1, 2).double() / 255
    x = x.reshape(len(images), -1)
    radius = float(attack.rho_u)
    start, order = harness.random("start"), harness.random("order")
    parts = range(0, len(x), attack.batch_size)
    drawn = [start.uniform(len(x[k : k + attack.batch_size]), x.shape[1]) for k in parts]
    noise = radius * (2 * torch.cat(drawn).double() - 1)
    for _ in range(attack.sweeps):
        turn = order.permutation(len(x))
        for first in parts:
            batch = turn[first : first + attack.batch_size]
            for _step in range(attack.steps):
                at = noise[batch].clone().requires_grad_()
                gradient = torch.autograd.grad(
                    discriminant(at, images.labels[batch].tolist()), at, allow_unused=True
                )[0]
                moved = (x[batch] + noise[batch]).clamp(0, 1) - radius / 10 * gradient.sign()
                noise[batch] = (moved - x[batch]).clamp(-radius, radius)
    levels = np.rint(255 * noise.numpy())
    shape = (len(images), 3, images.size, images.size)
    found = np.clip(255 * x.numpy() + levels, 0, 255).reshape(shape).transpose(0, 2, 3, 1)
    return np.rint(found)


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_descent_by_loops(seed: int) -> None:
    attack, images = TUE(sweeps=2, steps=3, batch_size=10), random_images(count=24, size=6)
    poison = attack.generate(images, make_harness(seed=seed))
    expected = poisoned_by_loops(attack, images, make_harness(seed=seed))
    assert (poison.images == expected).mean() > 0.999
    assert poison.budget.excess(images.images, poison.images) is None


def test_it_becomes_one_pattern_per_class_at_the_bound() -> None:
    grey = ImageSet(np.full((90, 16, 16, 3), 128, np.uint8), np.arange(90) % 3, 3)
    poison = TUE(rho_u=Radius("4/255"), batch_size=30).generate(grey, make_harness("fp32"))
    noise = poison.images.astype(int) - 128
    assert (np.abs(noise) == 4).mean() > 0.95
    means = np.stack([noise[grey.labels == label].mean(0) for label in range(3)])
    for label in range(3):
        same = np.sign(noise[grey.labels == label]) == np.sign(means[label])
        assert same.mean() > 0.98
    assert all((np.sign(means[i]) != np.sign(means[j])).mean() > 0.3 for i, j in [(0, 1), (1, 2)])


def test_images_of_a_single_class_keep_their_random_start() -> None:
    grey = ImageSet(np.full((8, 8, 8, 3), 128, np.uint8), np.zeros(8, np.int64), 2)
    noise = TUE(sweeps=2).generate(grey, make_harness()).images.astype(int) - 128
    assert len(np.unique(noise)) == 17


def test_precision_changes_no_noise_that_is_made_without_a_network(tmp_path: Path) -> None:
    """Its key does not name it."""
    few = {"shapes.train": "40", "shapes.test": "10", "training.epochs": "1"}
    made = []
    for precision in ("fp32", "fp64"):
        plan = make_plan(
            methods=["tue"], dataset="shapes", preset="smoke", settings=few, precision=precision,
            clean=False,
        )  # fmt: skip
        assert not run(plan, tmp_path / precision, device="cpu").failures
        made.append(load_records(tmp_path / precision).iloc[0])
    assert made[0]["poison"] == made[1]["poison"]
    assert made[0]["poison_sha256"] == made[1]["poison_sha256"]
