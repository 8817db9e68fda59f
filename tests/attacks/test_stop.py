"""Checkpoints of one generator: where REM and SEM stop, what they share, what they keep."""

from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from attack_checks import starting_network
from helpers import Interrupting, Interruption, Tiny, make_harness, random_images

from unlearnable_bench import Harness, Poison, Radius, UserError
from unlearnable_bench.attacks.rem import REM
from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.progress import Silent
from unlearnable_bench.harness.trajectory import Trajectory
from unlearnable_bench.running.surrogate import final_surrogate

BASE: dict[str, Any] = {
    "steps": 5,
    "batch_size": 10,
    "noise_steps": 2,
    "samples": 2,
    "attack_steps": 2,
}
IMAGES = random_images()


class Counting(Silent):
    """Progress that counts the steps of each loop."""

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = {}

    def track(self, label: str, total: int, steps: Any) -> Any:
        for step in steps:
            self.steps.setdefault(label, []).append(step)
            yield step


def made(folder: Path | None, method: type[REM] = SEM, **changed: Any) -> tuple[Poison, list[int]]:
    """Return the poison, and which updates were computed for it."""
    harness = make_harness()
    harness.progress = counting = Counting()
    if folder:
        harness.trajectory = Trajectory(folder / "key")
    poison = method(**BASE | changed).generate(IMAGES, harness)
    return poison, counting.steps.get("surrogate", [])


@pytest.mark.parametrize("method", [REM, SEM])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_stop_ends_the_updates_of_the_transcription(
    method: type[REM], stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rates stay those of all five steps: the third is a tenth of the first."""
    harness = make_harness()
    network = starting_network(harness, IMAGES)
    stepped = oracles.stepped_lr
    monkeypatch.setattr(oracles, "stepped_lr", lambda lr, step, _steps: stepped(lr, step, 5))
    oracle = oracles.sem if method is SEM else oracles.rem
    short = method(**BASE | {"steps": stop})
    expected = oracle(network, IMAGES, harness.transform, harness.seed, short)
    poison = method(**BASE | {"stop": stop}).generate(IMAGES, harness)
    np.testing.assert_array_equal(poison.images, expected)


@pytest.mark.parametrize("method", [REM, SEM])
def test_runs_that_share_updates_give_the_bytes_of_runs_from_scratch(
    method: type[REM], tmp_path: Path
) -> None:
    computed = []
    for stop in (2, 4, None, 3, 1):
        shared, updates = made(tmp_path, method, stop=stop)
        alone, _ = made(None, method, stop=stop)
        np.testing.assert_array_equal(shared.images, alone.images)
        computed.append(updates)
    assert computed == [[0, 1], [2, 3], [4], [2], [0]]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"key-{step}.safetensors" for step in (1, 2, 3, 4)]


def test_a_run_without_stop_keeps_no_state(tmp_path: Path) -> None:
    made(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_state_is_worth_no_more_than_none(tmp_path: Path) -> None:
    alone, _ = made(None, stop=4)
    made(tmp_path, stop=1)
    made(tmp_path, stop=3)
    path = tmp_path / "key-3.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-1] + b"\1", whole[:-9], b"", b"\xff" * 50):
        path.write_bytes(damaged)
        poison, updates = made(tmp_path, stop=4)
        assert updates == [1, 2, 3]
        np.testing.assert_array_equal(poison.images, alone.images)
        (tmp_path / "key-4.safetensors").unlink()


def test_a_state_of_another_network_is_not_taken(tmp_path: Path) -> None:
    made(tmp_path, stop=2)
    harness = make_harness(learner=Tiny())
    harness.trajectory = Trajectory(tmp_path / "key")
    harness.progress = counting = Counting()
    few = random_images(classes=2)
    SEM(**BASE, stop=3).generate(few, harness)
    assert counting.steps["surrogate"] == [0, 1, 2]


@pytest.mark.parametrize("before", [("surrogate", 1), ("extraction", 0), ("extraction", 1)])
def test_an_interrupted_run_leaves_the_state_of_the_stop(
    tmp_path: Path, before: tuple[str, int]
) -> None:
    """Resumed within the extraction, the random stream has gone on: that is no state to share."""

    def run(progress: Any) -> None:
        harness = make_harness()
        harness.trajectory = Trajectory(tmp_path / "key")
        harness.checkpoint = Checkpoint(tmp_path / "work.safetensors", interval=0)
        harness.progress = progress
        SEM(**BASE, stop=3).generate(IMAGES, harness)

    with pytest.raises(Interruption):
        run(Interrupting(*before))
    if before == ("extraction", 1):
        (tmp_path / "key-3.safetensors").unlink()
    run(Silent())
    assert (tmp_path / "key-3.safetensors").exists() is (before != ("extraction", 1))
    shared, _ = made(tmp_path, stop=4)
    alone, _ = made(None, stop=4)
    np.testing.assert_array_equal(shared.images, alone.images)


def test_a_resumed_run_takes_a_state_only_if_it_is_further(tmp_path: Path) -> None:
    def run(progress: Any) -> Harness:
        harness = make_harness()
        harness.trajectory = Trajectory(tmp_path / "key")
        harness.checkpoint = Checkpoint(tmp_path / "work.safetensors", interval=0)
        harness.progress = progress
        SEM(**BASE).generate(IMAGES, harness)
        return harness

    with pytest.raises(Interruption):
        run(Interrupting("surrogate", 3))
    made(tmp_path, stop=2)
    counting = Counting()
    harness = run(counting)
    assert counting.steps["surrogate"] == [3, 4]
    assert harness.trajectory is not None
    assert harness.trajectory.joined == 0


def test_the_time_of_updates_taken_over_is_counted(tmp_path: Path) -> None:
    made(tmp_path, stop=2)
    harness = make_harness()
    harness.trajectory = Trajectory(tmp_path / "key")
    before = harness.times["work"]
    tensor = torch.zeros(1)
    assert harness.trajectory.join({"x": tensor}, after=0, until=2) is None  # other tensors
    SEM(**BASE, stop=3).generate(IMAGES, harness)
    assert harness.trajectory.joined == 2
    assert harness.times["work"] > before
    assert harness.times["keeping"] > 0


def test_a_stop_that_ends_nothing_is_refused() -> None:
    for stop in (5, 6):
        with pytest.raises(UserError, match=rf"sem\.stop must be below steps, 5, got {stop}"):
            SEM.configured({"steps": "5", "stop": str(stop)}, owner="sem")
    with pytest.raises(UserError, match=r"sem\.stop must be at least 1, got 0"):
        SEM.configured({"stop": "0"}, owner="sem")
    assert SEM.configured({"stop": "none"}, owner="sem").stop is None


def test_a_stop_costs_the_updates_before_it() -> None:
    assert SEM(steps=10, stop=4).image_passes(100) == SEM(steps=4).image_passes(100)


def test_the_final_surrogate_is_the_network_that_made_the_noise(tmp_path: Path) -> None:
    """With no update, it is the network as initialised; after some, it is another one."""
    for lr, same in ((0.0, True), (0.1, False)):
        harness = make_harness()
        harness.surrogate = path = tmp_path / f"{lr}.safetensors"
        start = {n: t.clone() for n, t in harness.network(IMAGES).named_parameters()}
        SEM(**BASE | {"lr": lr, "stop": 2}).generate(IMAGES, harness)
        model = final_surrogate(IMAGES, make_harness(), path)
        assert not model.training
        found = dict(model.named_parameters())
        assert all(torch.equal(found[n], t) for n, t in start.items()) is same


def test_a_kept_surrogate_says_how_far_it_is(tmp_path: Path) -> None:
    from unlearnable_bench.harness.weights import read_tensors  # noqa: PLC0415

    for stop, updates in ((2, 2), (None, 5)):
        harness = make_harness()
        harness.surrogate = tmp_path / "key.safetensors"
        SEM(**BASE, stop=stop).generate(IMAGES, harness)
        _, metadata = read_tensors(harness.surrogate, torch.device("cpu"))
        assert (metadata["key"], metadata["step"]) == ("key", updates)


def test_a_surrogate_that_is_damaged_missing_or_another_is_named(tmp_path: Path) -> None:
    harness = make_harness()
    harness.surrogate = path = tmp_path / "key.safetensors"
    SEM(**BASE, rho_u=Radius("4/255")).generate(IMAGES, harness)
    whole = path.read_bytes()
    with pytest.raises(UserError, match=r"key\.safetensors is damaged"):
        final_surrogate(random_images(classes=7), make_harness(), path)
    for damaged in (whole[:-1] + b"\1", whole[:50], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"key\.safetensors is damaged"):
            final_surrogate(IMAGES, make_harness(), path)
    path.rename(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"key\.safetensors is missing"):
        final_surrogate(IMAGES, make_harness(), path)
    (tmp_path / "other.safetensors").write_bytes(whole)
    with pytest.raises(UserError, match=r"is damaged \(its key is key\)"):
        final_surrogate(IMAGES, make_harness(), tmp_path / "other.safetensors")
