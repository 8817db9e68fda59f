"""Targeted adversarial poisoning equals its literal transcription."""

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from helpers import Interrupting, Interruption, Tiny, make_harness, random_images

from unlearnable_bench import Harness, Radius
from unlearnable_bench.attacks.tap import TAP
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.running.surrogate import clean_network
from unlearnable_bench.schedule import Training
from unlearnable_bench.storage.files import locked

SHORT = Training(steps=4, batch_size=10, lr=0.05)
BASE: dict[str, Any] = {"steps": 3, "batch_size": 10}


def harness_for(path: Path | None = None, **kwargs: Any) -> Harness:
    harness = make_harness(**kwargs)
    harness.training, harness.weights = SHORT, path
    return harness


@pytest.mark.parametrize(
    ("changed", "transform"),
    [
        ({}, {}),
        ({"rho_u": Radius("16/255")}, {}),
        ({"steps": 1}, {}),
        ({"steps": 6}, {}),
        ({"alpha_u": Radius("2/255")}, {}),
        ({"untargeted": True}, {}),
        ({"restarts": 3}, {}),
        ({"restarts": 3, "untargeted": True}, {}),
        ({"batch_size": 7}, {}),
        ({"batch_size": 100}, {}),
        ({}, {"pad": 0, "flip": False}),
        ({}, {"seed": 4}),
        ({"restarts": 2}, {"crop": 5}),
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any], transform: dict[str, Any]) -> None:
    attack, images = TAP(**BASE | changed), random_images()
    network = copy.deepcopy(clean_network(images, harness_for(**transform)))
    harness = harness_for(**transform)
    expected, losses = oracles.tap(network, images, harness.transform, harness.seed, attack)
    poison = attack.generate(images, harness)
    np.testing.assert_array_equal(poison.images, expected)
    best = max(losses) if attack.untargeted else min(losses)
    assert poison.notes["loss"] == pytest.approx(best, rel=1e-9)


def test_the_noise_leads_to_the_next_class() -> None:
    images, harness = random_images(60), harness_for(pad=0, flip=False)
    harness.training = Training(steps=300, batch_size=10, lr=0.02)
    model = clean_network(images, harness)

    def next_class_rate(pixels: np.ndarray) -> float:
        x = torch.tensor(pixels).permute(0, 3, 1, 2).double() / 255
        aims = (torch.tensor(images.labels) + 1) % images.classes
        return float((model(x).argmax(1) == aims).double().mean())

    attack = TAP(steps=40, rho_u=Radius("32/255"))
    poison = attack.generate(images, harness)
    assert next_class_rate(poison.images) > next_class_rate(images.images) + 0.3


def test_the_clean_network_is_trained_once_and_kept(tmp_path: Path) -> None:
    path, images = tmp_path / "networks" / "key.safetensors", random_images()
    first = Tiny()
    kept = clean_network(images, harness_for(path, learner=first))
    assert path.is_file()
    again = harness_for(path)
    again.training = None  # would take 40,000 steps
    loaded = clean_network(images, again)
    for name, tensor in kept.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_the_clean_network_that_another_process_trains_is_waited_for(tmp_path: Path) -> None:
    path, images = tmp_path / "key.safetensors", random_images()
    elsewhere = tmp_path / "elsewhere" / "key.safetensors"
    theirs = clean_network(images, harness_for(elsewhere))
    mine = harness_for(path, seed=1)
    mine.training = None  # would take 40,000 steps
    with ThreadPoolExecutor(1) as pool:
        with locked(path.with_suffix(".lock"), wait=True):
            waiting = pool.submit(clean_network, images, mine)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
            elsewhere.rename(path)
        loaded = waiting.result(60).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in theirs.state_dict().items())


def test_the_clean_network_is_not_the_learner_of_the_same_seed() -> None:
    images, harness = random_images(), harness_for()
    harness.training = Training(steps=1, lr=0.0, weight_decay=0.0)
    surrogate = clean_network(images, harness)
    learner = harness.network(images, "learner")
    name, tensor = next(iter(surrogate.named_parameters()))
    assert not torch.equal(tensor, dict(learner.named_parameters())[name])


def test_a_damaged_clean_network_is_trained_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, images = tmp_path / "key.safetensors", random_images()
    whole = clean_network(images, harness_for(path)).state_dict()
    path.write_bytes(b"not weights")
    again = clean_network(images, harness_for(path)).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())
    assert "key.safetensors is damaged" in caplog.text
    assert (tmp_path / "damaged" / "key.safetensors").read_bytes() == b"not weights"


def test_resuming_gives_the_same_poison(tmp_path: Path) -> None:
    attack, images = TAP(**BASE, restarts=2), random_images()
    whole = attack.generate(images, harness_for()).images
    for before in (1, 3, 5):
        state = tmp_path / f"{before}.safetensors"
        stopped = harness_for(tmp_path / "network.safetensors")
        stopped.checkpoint = Checkpoint(state, interval=0)
        stopped.progress = Interrupting("attack", before)
        with pytest.raises(Interruption):
            attack.generate(images, stopped)
        resumed = harness_for(tmp_path / "network.safetensors")
        resumed.checkpoint = Checkpoint(state, interval=0)
        np.testing.assert_array_equal(attack.generate(images, resumed).images, whole)
