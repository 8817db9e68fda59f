"""Robust error-minimizing noise equals its literal transcription."""

from pathlib import Path
from typing import Any

import attack_checks
import numpy as np
import oracles
import pytest
from helpers import make_harness, random_images

from unlearnable_bench import Radius
from unlearnable_bench.attacks import rem
from unlearnable_bench.attacks.rem import REM

BASE: dict[str, Any] = {
    "steps": 3,
    "batch_size": 10,
    "noise_steps": 3,
    "samples": 2,
    "attack_steps": 2,
}


@pytest.mark.parametrize(
    ("changed", "transform"),
    [
        ({}, {}),
        ({"rho_u": Radius("16/255")}, {}),
        ({"rho_u": Radius("7.4/255")}, {}),
        ({"rho_u": Radius("0")}, {}),
        ({"rho_a": Radius("0")}, {}),
        ({"rho_a": Radius("16/255")}, {}),
        ({"steps": 1}, {}),
        ({"steps": 7, "samples": 1, "attack_steps": 1}, {}),
        ({"batch_size": 1, "samples": 1}, {}),
        ({"batch_size": 25}, {}),
        ({"batch_size": 40}, {}),
        ({"lr": 0.0}, {}),
        ({"lr": 0.5}, {}),
        ({"noise_steps": 1}, {}),
        ({"noise_steps": 4}, {}),
        ({"samples": 1}, {}),
        ({"samples": 5}, {}),
        ({"attack_steps": 1}, {}),
        ({"attack_steps": 4}, {}),
        ({"alpha_u": Radius("1/255")}, {}),
        ({"alpha_a": Radius("1/255")}, {}),
        ({}, {"pad": 0}),
        ({}, {"flip": False}),
        ({}, {"pad": 3}),
        ({}, {"pad": 0, "flip": False}),
        ({}, {"seed": 5}),
        ({}, {"crop": 6}),
        ({"steps": 1}, {"crop": 8, "flip": False}),
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any], transform: dict[str, Any]) -> None:
    attack, images = REM(**BASE | changed), random_images()
    harness = make_harness(**transform)
    network = attack_checks.starting_network(harness, images)
    expected = oracles.rem(network, images, harness.transform, harness.seed, attack)
    poison = attack.generate(images, harness)
    np.testing.assert_array_equal(poison.images, expected)
    attack_checks.check_budget(poison, images)


def test_single_precision_agrees_on_nearly_all_pixels() -> None:
    attack_checks.check_fp32_agrees(REM(**BASE | {"steps": 1}))


def test_the_seed_decides_the_poison() -> None:
    attack_checks.check_same_seed_same_poison(REM(**BASE))


def test_an_interrupted_run_ends_in_the_same_poison(tmp_path: Path) -> None:
    stops = [("surrogate", 1), ("surrogate", 2), ("extraction", 0), ("extraction", 2)]
    attack_checks.check_resumes(REM(**BASE), tmp_path, stops)


def test_a_run_killed_within_a_step_ends_in_the_same_poison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack_checks.check_resumes_within_a_step(
        REM(**BASE | {"steps": 4}), tmp_path, rem, monkeypatch
    )


def test_noise_belongs_to_its_image() -> None:
    attack_checks.check_noise_belongs_to_its_image(REM(**BASE))


def test_noise_lowers_the_loss_of_each_image() -> None:
    attack_checks.check_noise_lowers_each_loss(REM(**BASE))


def test_image_passes_are_those_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    attack, images = REM(**BASE), random_images(count=30)
    counted = attack_checks.counted_passes(attack, images, rem, monkeypatch)
    assert attack.image_passes(30) == counted


def test_image_passes_are_those_counted_without_an_adversary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attack, images = REM(**BASE | {"rho_a": Radius("0")}), random_images(count=30)
    counted = attack_checks.counted_passes(attack, images, rem, monkeypatch)
    assert attack.image_passes(30) == counted


def test_a_step_costs_561_passes_of_each_image_by_default() -> None:
    assert REM(steps=1).image_passes(128) == 128 * (561 + 550)
