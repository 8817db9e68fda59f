"""Robust error-minimizing noise equals its literal transcription."""

from typing import Any

import attack_checks
import numpy as np
import oracles
import pytest
from attack_table import ALTERNATION
from helpers import make_harness, random_images

from unlearnable_bench import Radius
from unlearnable_bench.attacks.rem import REM


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
    attack, images = REM(**ALTERNATION | changed), random_images()
    harness = make_harness(**transform)
    network = attack_checks.starting_network(harness, images)
    expected = oracles.rem(network, images, harness.transform, harness.seed, attack)
    poison = attack.generate(images, harness)
    np.testing.assert_array_equal(poison.images, expected)
    attack_checks.check_budget(poison, images)


def test_a_step_costs_561_passes_of_each_image_by_default() -> None:
    assert REM(steps=1).image_passes(128) == 128 * (561 + 550)
