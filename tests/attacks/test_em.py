"""Error-minimizing noise equals its literal transcription."""

import dataclasses
from pathlib import Path
from typing import Any

import attack_checks
import numpy as np
import oracles
import pytest
from attack_table import CLASSWISE, MISALIGNED, OFFICIAL
from helpers import Tiny, make_harness, random_images

from unlearnable_bench import Radius, UserError
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.harness.checkpoint import Checkpoint


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"rho_u": Radius("16/255")},
        {"rho_u": Radius("7.4/255")},
        {"rho_u": Radius("0")},
        {"noise_steps": 1},
        {"noise_steps": None},
        {"alpha_u": Radius("1/255")},
        {"batch_size": 1},
        {"batch_size": 25},
        {"batch_size": None},
        {"lr": 0.0},
        {"lr": 1.0},
        {"rounds": 1},
        {"rounds": 4, "batches": 1},
        {"rounds": 9, "stop_error": 0.7},
        {"rounds": 9, "stop_error": 0.2},
        {"rounds": 9, "stop_error": 1.0},
    ],
    ids=str,
)
def test_official_equals_the_transcription(changed: dict[str, Any]) -> None:
    attack, images, harness = EM(**OFFICIAL | changed), random_images(), make_harness()
    network = attack_checks.starting_network(harness, images)
    expected, notes = oracles.em_official(network, images, attack)
    poison = attack.generate(images, harness)
    np.testing.assert_array_equal(poison.images, expected)
    assert poison.notes == notes
    attack_checks.check_budget(poison, images)


def test_official_clips_the_norm_of_the_gradient() -> None:
    attack, images = EM(**OFFICIAL), random_images()
    harness = make_harness(learner=Tiny(gain=60.0))
    network = attack_checks.starting_network(harness, images)
    expected, _ = oracles.em_official(network, images, attack)
    np.testing.assert_array_equal(attack.generate(images, harness).images, expected)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"rho_u": Radius("16/255")},
        {"rho_u": Radius("0")},
        {"rounds": 25},
        {"noise_steps": 4},
        {"noise_steps": 4, "alpha_u": Radius("1.6/255")},
        {"batch_size": 3},
        {"batch_size": None},
        {"lr": 0.0},
        {"rounds": 12, "stop_error": 0.4},
        {"rounds": 12, "stop_error": 1.0},
    ],
    ids=str,
)
def test_classwise_equals_the_transcription(changed: dict[str, Any]) -> None:
    attack, images, harness = EM(**CLASSWISE | changed), random_images(80), make_harness(seed=3)
    network = attack_checks.starting_network(harness, images)
    expected, notes = oracles.em_classwise(network, images, attack, seed=3)
    poison = attack.generate(images, harness)
    # Means of members differ in the last bit, which may turn a rounding.
    assert (poison.images == expected).mean() > 0.9995
    assert poison.notes == notes
    attack_checks.check_budget(poison, images)


def test_classwise_noise_is_one_for_each_class() -> None:
    images = random_images(80)
    grey = images.replaced(np.full_like(images.images, 128))
    harness = make_harness()
    noise = EM(**CLASSWISE).generate(grey, harness).images.astype(int) - 128
    for label in range(images.classes):
        own = noise[images.labels == label]
        assert (own == own[0]).all()
        assert own.any()


def test_classwise_refuses_a_class_without_images() -> None:
    images = dataclasses.replace(random_images(80), classes=4)
    with pytest.raises(
        UserError, match=r"training set has no image of class 3; use --set em.variant"
    ):
        EM(**CLASSWISE).check(images)
    EM(**OFFICIAL).check(images)


def test_a_step_size_of_zero_is_refused_where_the_noise_starts_at_zero() -> None:
    for variant in (OFFICIAL, CLASSWISE):
        with pytest.raises(UserError, match=r"em\.alpha_u=0: the noise starts at 0"):
            EM(**variant | {"alpha_u": Radius("0")}).check(random_images())
    EM(**MISALIGNED | {"alpha_u": Radius("0")}).check(random_images())  # a random start


def test_classwise_refuses_a_seed_whose_noise_search_lacks_a_class_before_the_run() -> None:
    few = random_images(10, classes=9)  # a fifth of 10 images cannot hold 9 classes
    with pytest.raises(
        UserError, match=r"the random fifth of seed 3 for the noise search has no image of class"
    ):
        EM(**CLASSWISE).check_run(few, make_harness().transform, 3)
    EM(**OFFICIAL).check_run(few, make_harness().transform, 3)


def test_the_noise_search_is_checked_on_the_images_that_the_run_draws() -> None:
    images = random_images(80)
    drawn = make_harness().random("subset").permutation(80)[:16]
    only = dataclasses.replace(images, labels=np.ones(80, np.int64))
    labels = only.labels.copy()
    labels[drawn[0]] = 0  # the only image of class 0, and the run of this seed draws it
    one = dataclasses.replace(images, labels=labels, classes=2)
    EM(**CLASSWISE).check_run(one, make_harness().transform, make_harness().seed)
    labels[drawn[0]], labels[np.setdiff1d(np.arange(80), drawn)[0]] = 1, 0
    with pytest.raises(UserError, match="no image of class 0"):
        EM(**CLASSWISE).check_run(one, make_harness().transform, make_harness().seed)


def test_official_ignores_the_transform() -> None:
    attack, images = EM(**OFFICIAL), random_images()
    still = attack.generate(images, make_harness(pad=0, flip=False))
    for moved in (make_harness(), make_harness(crop=6)):
        np.testing.assert_array_equal(attack.generate(images, moved).images, still.images)


def test_misaligned_refuses_views_of_another_size() -> None:
    with pytest.raises(UserError, match=r", 6 px, not of 8 px.*imagenet-subset\.size=6"):
        EM(**MISALIGNED).check_run(random_images(), make_harness(crop=6).transform, 0)
    EM(**OFFICIAL).check_run(random_images(), make_harness(crop=6).transform, 0)


@pytest.mark.parametrize(
    ("changed", "transform"),
    [
        ({}, {}),
        ({"rho_u": Radius("16/255")}, {}),
        ({"rho_u": Radius("7.4/255")}, {}),
        ({"rho_u": Radius("0")}, {}),
        ({"alpha_u": Radius("1.6/255")}, {}),
        ({"noise_steps": 1}, {}),
        ({"noise_steps": None}, {}),
        ({"batch_size": 1}, {}),
        ({"batch_size": 25}, {}),
        ({"batch_size": None}, {}),
        ({"lr": 0.0}, {}),
        ({"lr": 0.5}, {}),
        ({"steps": 1}, {}),
        ({"steps": 11}, {}),
        ({}, {"pad": 0}),
        ({}, {"flip": False}),
        ({}, {"pad": 3}),
        ({}, {"pad": 0, "flip": False}),
        ({}, {"seed": 5}),
        ({}, {"crop": 8}),
    ],
    ids=str,
)
def test_misaligned_equals_the_transcription(
    changed: dict[str, Any], transform: dict[str, Any]
) -> None:
    attack, images = EM(**MISALIGNED | changed), random_images()
    harness = make_harness(**transform)
    network = attack_checks.starting_network(harness, images)
    expected = oracles.em_misaligned(network, images, harness.transform, harness.seed, attack)
    poison = attack.generate(images, harness)
    np.testing.assert_array_equal(poison.images, expected)
    attack_checks.check_budget(poison, images)


def test_a_run_killed_after_its_last_round_keeps_its_notes(tmp_path: Path) -> None:
    attack, images = EM(**OFFICIAL), random_images()
    notes = []
    for _ in range(2):
        harness = make_harness()
        harness.checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", interval=0)
        notes.append(attack.generate(images, harness).notes)
    assert notes[0] == notes[1]
