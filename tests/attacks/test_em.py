"""Error-minimizing noise equals its literal transcription."""

import dataclasses
from pathlib import Path
from typing import Any

import attack_checks
import numpy as np
import oracles
import pytest
import torch
from attack_table import CLASSWISE, MISALIGNED, OFFICIAL
from helpers import Centred, Tiny, make_harness, random_images
from sklearn.model_selection import train_test_split
from torch import nn

from unlearnable_bench import Harness, ImageSet, Radius, UserError
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.images import Pixels
from unlearnable_bench.learners import Normalise
from unlearnable_bench.running.surrogate import final_surrogate


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


def inner(harness: Harness, images: ImageSet) -> nn.Module:
    """Return the network that `generate` starts from, without the layer that subtracts 0.5."""
    shift, network = attack_checks.starting_network(harness, images).network.children()
    assert isinstance(shift, Normalise)
    return network


@pytest.mark.parametrize("variant", [OFFICIAL, CLASSWISE], ids=["official", "classwise"])
def test_the_surrogate_of_the_authors_code_sees_0_to_1(variant: dict[str, Any]) -> None:
    """The transcription runs the network on [0, 1]; with x - 0.5 the noise is another."""
    images = random_images(80)

    def transcribed(network: nn.Module) -> Pixels:
        if variant is CLASSWISE:
            return oracles.em_classwise(network, images, EM(**variant), seed=0)[0]
        return oracles.em_official(network, images, EM(**variant))[0]

    def generated(**changed: Any) -> Pixels:
        harness = make_harness(learner=Centred())
        return EM(**variant | changed).generate(images, harness).images

    harness = make_harness(learner=Centred())
    expected = transcribed(inner(harness, images))
    assert (generated() == expected).mean() > 0.9995
    assert (generated(centred=False) == expected).mean() > 0.9995
    assert (generated(centred=True) == expected).mean() < 0.9
    shifted = transcribed(attack_checks.starting_network(harness, images))
    assert (generated(centred=True) == shifted).mean() > 0.9995


def test_misaligned_sees_the_image_less_a_half() -> None:
    """As the REM code, whose networks get -0.5 to 0.5."""
    attack, images = EM(**MISALIGNED), random_images()
    harness = make_harness(learner=Centred())

    def transcribed(network: nn.Module) -> Pixels:
        return oracles.em_misaligned(network, images, harness.transform, harness.seed, attack)

    poisoned = attack.generate(images, harness).images
    np.testing.assert_array_equal(
        poisoned, transcribed(attack_checks.starting_network(harness, images))
    )
    assert (poisoned == transcribed(inner(harness, images))).mean() < 0.9


def test_only_the_variants_that_have_changed_have_a_new_version() -> None:
    """An option that is none is no part of a key, so misaligned EM has its earlier one."""
    variants: tuple[Any, ...] = ("official", "classwise", "misaligned")
    assert [EM(variant=variant).version for variant in variants] == ["2", "2", "1"]
    assert dataclasses.replace(EM(), variant="misaligned").version == "1"
    assert EM().centred is None


@pytest.mark.parametrize("centred", [True, False])
def test_the_stored_surrogate_gets_its_own_input(tmp_path: Path, centred: bool) -> None:
    """Its weights alone would be those of a network that subtracts 0.5."""
    images, x = random_images(), torch.rand(4, 3, 8, 8, dtype=torch.float64)
    harness = make_harness(learner=Centred())
    harness.surrogate = path = tmp_path / "key.safetensors"
    EM(**OFFICIAL, centred=centred).generate(images, harness)
    model = final_surrogate(images, make_harness(learner=Centred()), path)
    _, network = model.network.children()
    torch.testing.assert_close(model(x), network(x - 0.5 if centred else x))


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
    few = ImageSet(random_images(20).images, np.arange(20) % 5, classes=5)
    with pytest.raises(UserError, match=r"here 4 of 20 images, and needs one of each of 5 classes"):
        EM(**CLASSWISE).check(few)


def test_a_step_size_of_zero_is_refused_where_the_noise_starts_at_zero() -> None:
    for variant in (OFFICIAL, CLASSWISE):
        with pytest.raises(UserError, match=r"em\.alpha_u=0: the noise starts at 0"):
            EM(**variant | {"alpha_u": Radius("0")}).check(random_images())
    EM(**MISALIGNED | {"alpha_u": Radius("0")}).check(random_images())  # a random start


def fifth(labels: list[int], seed: int = 0) -> list[int]:
    """Return how many images of each class are visited in the search for class-wise noise."""
    classes = max(labels) + 1
    images = ImageSet(np.zeros((len(labels), 8, 8, 3), np.uint8), np.array(labels), classes)
    harness = make_harness(seed=seed)
    search = EM(**CLASSWISE | {"batch_size": 1})._classwise(images, torch.tensor(labels), harness)
    visited = [int(index) for index, _ in search.visits(0)]
    assert len(set(visited)) == len(visited)
    return np.bincount(np.array(labels)[visited], minlength=classes).tolist()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([50, 50], [10, 10]),
        ([30, 20, 50], [6, 4, 10]),
        ([5, 5, 5, 5], [1, 1, 1, 1]),  # a fifth of 20 drawn freely lacks a class
        ([7, 7, 6], [2, 1, 1]),  # 1.4, 1.4, 1.2: the first of the largest remainders
        ([33, 33, 34], [7, 6, 7]),  # 6.6, 6.6, 6.8
        ([98, 1, 1], [18, 1, 1]),  # 19.6, 0.2, 0.2, and one of each class
    ],
)
def test_the_fifth_of_classwise_has_a_fifth_of_each_class(
    sizes: list[int], expected: list[int]
) -> None:
    assert fifth([c for c, size in enumerate(sizes) for _ in range(size)]) == expected


def test_the_fifth_of_classwise_is_stratified_as_the_authors_do() -> None:
    """They call scikit-learn's train_test_split with `stratify`; here the counts have no ties."""
    labels = np.repeat(np.arange(4), [61, 122, 36, 96])
    theirs, _ = train_test_split(labels, train_size=0.2, stratify=labels, random_state=0)
    assert fifth(labels.tolist()) == np.bincount(theirs).tolist() == [12, 25, 7, 19]
    assert fifth(labels.tolist(), seed=1) == fifth(labels.tolist())


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
