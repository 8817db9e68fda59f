"""What every built-in attack keeps, checked for each that it concerns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attack_checks
import pytest
from attack_table import TABLE, Entry
from helpers import make_harness, random_images

from unlearnable_bench.planning.registry import attacks


def those(concerned: Callable[[Entry], object]) -> pytest.MarkDecorator:
    found = {name: entry for name, entry in TABLE.items() if concerned(entry)}
    assert found
    return pytest.mark.parametrize("entry", found.values(), ids=found)


def test_every_built_in_attack_is_in_the_table() -> None:
    assert {name.split()[0] for name in TABLE} == {*attacks.names()}
    assert all(type(entry.attack) is attacks.get(k.split()[0]) for k, entry in TABLE.items())


@pytest.mark.parametrize("name", ["aap", "aue", "gue", "tue moco"])
def test_the_network_sees_0_to_1_as_in_the_code_of_the_authors(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, asked = TABLE[name], []
    harness = make_harness(learner=entry.learner)
    made = harness.network

    def network(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs.get("centred", True))
        return made(*args, **kwargs)

    monkeypatch.setattr(harness, "network", network)
    entry.attack.generate(random_images(entry.images), harness)
    assert asked
    assert not any(asked)


@those(lambda entry: entry.seeded)
def test_the_seed_decides_the_poison(entry: Entry) -> None:
    images = random_images(entry.images)
    attack_checks.check_same_seed_same_poison(entry.attack, images, entry.learner)


@those(lambda entry: entry.single)
def test_single_precision_agrees_on_nearly_all_pixels(entry: Entry) -> None:
    assert entry.single
    attack_checks.check_fp32_agrees(entry.single)


@those(lambda entry: entry.stops)
def test_an_interrupted_run_ends_in_the_same_poison(entry: Entry, tmp_path: Path) -> None:
    images = random_images(entry.images)
    attack_checks.check_resumes(entry.attack, images, tmp_path, entry.stops, entry.learner)


@those(lambda entry: entry.killed)
def test_a_run_killed_within_a_step_ends_in_the_same_poison(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert entry.killed
    assert entry.module
    attack_checks.check_resumes_within_a_step(entry.killed, tmp_path, entry.module, monkeypatch)


@those(lambda entry: entry.own_noise)
def test_noise_belongs_to_its_image(entry: Entry) -> None:
    attack_checks.check_noise_belongs_to_its_image(entry.attack)


@those(lambda entry: entry.own_noise)
def test_noise_lowers_the_loss_of_each_image(entry: Entry) -> None:
    attack_checks.check_noise_lowers_each_loss(entry.attack)


@those(lambda entry: entry.counted)
def test_image_passes_are_those_counted(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    assert entry.module
    for attack in entry.counted:
        counted = attack_checks.counted_passes(
            attack, random_images(count=30), entry.module, monkeypatch
        )
        assert attack.image_passes(30) == counted
