"""What an attack declares is what it does: its surrogate, and the options that it reads."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack_checks import CLEAN_TRAINING
from attack_table import TABLE
from helpers import make_harness, random_images

from unlearnable_bench import Attack, UserError, clean_network

CASES = {
    attack: entry.learner for entry in TABLE.values() for attack in (entry.attack, *entry.others)
}


@contextmanager
def spied(attack: Attack) -> Iterator[set[str]]:
    """Note which options are read."""
    names = {field.name for field in dataclasses.fields(attack)}
    read: set[str] = set()
    cls = type(attack)

    class Spied(cls):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            if name in names:
                read.add(name)
            return super().__getattribute__(name)

    object.__setattr__(attack, "__class__", Spied)
    try:
        yield read
    finally:
        object.__setattr__(attack, "__class__", cls)


@pytest.mark.parametrize("attack", [*CASES], ids=str)
def test_it_reads_the_options_that_it_says_and_trains_the_network_that_it_says(
    attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = random_images(60, 8, classes=4)
    np.save("noise.npy", np.full(images.images.shape, 3, np.int8))
    harness = make_harness("fp32", learner=CASES[attack])
    harness.training, harness.declared = CLEAN_TRAINING, attack.surrogate
    unread = attack.unread()
    with spied(attack) as read:
        attack.check(images)
        poison = attack.generate(images, harness)
    assert read == {field.name for field in dataclasses.fields(attack)} - unread.keys()
    assert harness.asked == ({attack.surrogate} - {"none"})
    assert poison.budget.excess(images.images, poison.images) is None


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("none", 'surrogate = "none" and asks for a network; declare surrogate = "own"'),
        ("own", 'surrogate = "own" and asks for a network trained on the clean images; declare'),
    ],
)
def test_a_network_that_is_not_declared_is_refused(declared: str, words: str) -> None:
    images, harness = random_images(25, 8), make_harness("fp32")
    harness.training, harness.declared = CLEAN_TRAINING, declared
    ask = harness.network if declared == "none" else partial(clean_network, harness=harness)
    with pytest.raises(UserError, match=words):
        ask(images)


@pytest.mark.parametrize("old", ["trains_surrogate", "uses_clean_network", "slow"])
def test_the_declarations_of_the_first_version_are_refused_with_the_new_one(old: str) -> None:
    with pytest.raises(UserError, match=rf"sets {old}, of ubench 0.1: declare"):
        type("Mine", (Attack,), {old: False})
    with pytest.raises(UserError, match="declares surrogate = 'mine'; allowed: none, own, clean"):
        type("Mine", (Attack,), {"surrogate": "mine"})
