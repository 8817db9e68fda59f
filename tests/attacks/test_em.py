"""Error-minimizing noise equals its literal transcription."""

import dataclasses
from pathlib import Path
from typing import Any

import attack_checks
import numpy as np
import oracles
import pytest
from helpers import Interrupting, Interruption, Tiny, make_harness, random_images

from unlearnable_bench import Radius, UserError
from unlearnable_bench.attacks import em
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.harness.checkpoint import Checkpoint

OFFICIAL: dict[str, Any] = {
    "noise_steps": 5,
    "batch_size": 10,
    "rounds": 2,
    "batches": 3,
    "stop_error": 0.0,
}
MISALIGNED: dict[str, Any] = {
    "variant": "misaligned",
    "noise_steps": 3,
    "batch_size": 10,
    "steps": 5,
}


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


CLASSWISE: dict[str, Any] = {
    "variant": "classwise",
    "batch_size": 7,
    "rounds": 6,
    "batches": 3,
    "stop_error": 0.0,
}


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


def test_classwise_resumes(tmp_path: Path) -> None:
    images, attack = random_images(80), EM(**CLASSWISE)
    whole = attack.generate(images, make_harness())
    for stop in (("rounds", 1), ("rounds", 4), None):
        harness = make_harness()
        harness.checkpoint = Checkpoint(tmp_path / "state.safetensors", interval=0)
        if stop:
            harness.progress = Interrupting(*stop)
            with pytest.raises(Interruption):
                attack.generate(images, harness)
        else:
            resumed = attack.generate(images, harness)
    np.testing.assert_array_equal(resumed.images, whole.images)
    assert resumed.notes == whole.notes


def test_classwise_refuses_a_class_without_images() -> None:
    images = dataclasses.replace(random_images(80), classes=4)
    with pytest.raises(UserError, match=r"has no image of class 3; use --set em.variant"):
        EM(**CLASSWISE).check(images)
    EM(**OFFICIAL).check(images)
    few = random_images(10, classes=9)
    with pytest.raises(UserError, match=r"fifth for the noise search has no image of class"):
        EM(**CLASSWISE).generate(few, make_harness())


def test_official_ignores_the_transform() -> None:
    attack, images = EM(**OFFICIAL), random_images()
    still = attack.generate(images, make_harness(pad=0, flip=False))
    for moved in (make_harness(), make_harness(crop=6)):
        np.testing.assert_array_equal(attack.generate(images, moved).images, still.images)


def test_misaligned_refuses_views_of_another_size() -> None:
    with pytest.raises(UserError, match=r", 6 px, not of 8 px.*imagenet-subset\.size=6"):
        EM(**MISALIGNED).generate(random_images(), make_harness(crop=6))


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


@pytest.mark.parametrize("options", [OFFICIAL | {"rounds": 1}, MISALIGNED | {"steps": 2}])
def test_single_precision_agrees_on_nearly_all_pixels(options: dict[str, Any]) -> None:
    attack_checks.check_fp32_agrees(EM(**options))


@pytest.mark.parametrize("options", [OFFICIAL, MISALIGNED])
def test_the_seed_decides_the_poison(options: dict[str, Any]) -> None:
    attack_checks.check_same_seed_same_poison(EM(**options))


@pytest.mark.parametrize(
    ("options", "stops"),
    [
        (OFFICIAL | {"rounds": 4}, [("rounds", 1)]),
        (OFFICIAL | {"rounds": 5, "batches": 1}, [("rounds", 2), ("rounds", 3)]),
        (MISALIGNED, [("surrogate", 1), ("surrogate", 4), ("extraction", 0), ("extraction", 2)]),
    ],
)
def test_an_interrupted_run_ends_in_the_same_poison(
    options: dict[str, Any], stops: list[tuple[str, int]], tmp_path: Path
) -> None:
    attack_checks.check_resumes(EM(**options), tmp_path, stops)


@pytest.mark.parametrize("options", [OFFICIAL | {"rounds": 3}, MISALIGNED | {"steps": 12}])
def test_a_run_killed_within_a_step_ends_in_the_same_poison(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack_checks.check_resumes_within_a_step(EM(**options), tmp_path, em, monkeypatch)


def test_a_run_killed_after_its_last_round_keeps_its_notes(tmp_path: Path) -> None:
    attack, images = EM(**OFFICIAL), random_images()
    notes = []
    for _ in range(2):
        harness = make_harness()
        harness.checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", interval=0)
        notes.append(attack.generate(images, harness).notes)
    assert notes[0] == notes[1]


@pytest.mark.parametrize("options", [OFFICIAL, MISALIGNED])
def test_noise_belongs_to_its_image(options: dict[str, Any]) -> None:
    attack_checks.check_noise_belongs_to_its_image(EM(**options))


@pytest.mark.parametrize("options", [OFFICIAL, MISALIGNED])
def test_noise_lowers_the_loss_of_each_image(options: dict[str, Any]) -> None:
    attack_checks.check_noise_lowers_each_loss(EM(**options))


@pytest.mark.parametrize("options", [OFFICIAL | {"rounds": 3}, MISALIGNED])
def test_image_passes_are_those_counted(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    attack, images = EM(**options), random_images(count=30)
    counted = attack_checks.counted_passes(attack, images, em, monkeypatch)
    assert attack.image_passes(30) == counted
