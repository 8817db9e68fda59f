"""The arms of the ablation equal their literal transcription."""

from typing import Any

import attack_checks
import numpy as np
import oracles
import pytest
from helpers import make_harness, random_images

from unlearnable_bench import Radius
from unlearnable_bench.attacks import rem
from unlearnable_bench.attacks.rem import REM
from unlearnable_bench.attacks.sem import SEM

BASE: dict[str, Any] = {
    "steps": 3,
    "batch_size": 10,
    "noise_steps": 2,
    "samples": 2,
    "attack_steps": 2,
}
ARMS = [
    {"perturbation": perturbation, **radii}
    for perturbation in ("pgd", "uniform", "gaussian", "none")
    for radii in (
        {},
        {"noise_rho_a": Radius("0")},
        {"noise_rho_a": Radius("2/255")},
        {"noise_rho_a": Radius("2/255"), "rho_a": Radius("0")},
        {"noise_rho_a": Radius("2/255"), "alpha_a": Radius("0.5/255")},
    )
]


@pytest.mark.parametrize("changed", ARMS, ids=str)
def test_equals_the_transcription(changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    attack, images, harness = REM(**BASE | changed), random_images(), make_harness()
    network = attack_checks.starting_network(harness, images)
    expected = oracles.arm(network, images, harness.transform, harness.seed, attack)
    np.testing.assert_array_equal(attack.generate(images, harness).images, expected)
    images = random_images(count=30)  # no borrowed images in the last batch
    counted = attack_checks.counted_passes(attack, images, rem, monkeypatch)
    assert attack.image_passes(len(images)) == counted


def test_the_perturbation_is_all_that_tells_sem_from_rem() -> None:
    images = random_images()
    sem = SEM(**BASE).generate(images, make_harness()).images
    arm = REM(**BASE, perturbation="uniform").generate(images, make_harness()).images
    np.testing.assert_array_equal(sem, arm)
