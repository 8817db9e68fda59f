"""Surrogates in a results folder: kept with a poison, shared, or trained on clean images."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_harness, random_images
from torch import nn

from unlearnable_bench import api
from unlearnable_bench.harness import Harness, input_gradient, pgd
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.samples import measure_quality
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.surrogate import clean_network, final_surrogate
from unlearnable_bench.running.worker import harness_of
from unlearnable_bench.schedule import Training

SHORT = {
    "shapes.train": "60",
    "shapes.test": "20",
    "training.epochs": "1",
    "small-cnn.width": "4",
}
CPU = torch.device("cpu")


def plan(method: str, **settings: str) -> Plan:
    changed = SHORT | {f"{method}.{name}": value for name, value in settings.items()}
    return make_plan(methods=[method], settings=changed, clean=False)


def run(asked: Plan, out: Path) -> Record:
    assert not api.run(asked, out, device="cpu").failures
    record = ResultsFolder(out).record(asked.cells[0].key)
    assert record is not None
    return record


@pytest.mark.parametrize("method", ["sem", "rem"])
def test_a_run_keeps_the_surrogate_of_a_poison(method: str, tmp_path: Path) -> None:
    asked = plan(method, steps="3")
    run(asked, tmp_path)
    folder, poison = ResultsFolder(tmp_path), asked.cells[0].poison
    images = poison.data.train
    model = final_surrogate(images, harness_of(poison, folder, CPU), folder.network(poison.key))
    started = harness_of(poison, folder, CPU).network(images)
    found = dict(model.named_parameters())
    assert any(not torch.equal(found[name], t) for name, t in started.named_parameters())


def test_a_poison_is_written_only_after_its_surrogate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan("sem", steps="2")
    write, seen = ResultsFolder.write_poison, []

    def spy(folder: ResultsFolder, key: str, *rest: Any) -> None:
        seen.append(folder.network(key).exists())
        write(folder, key, *rest)

    monkeypatch.setattr(ResultsFolder, "write_poison", spy)
    run(asked, tmp_path)
    assert seen == [True]


def test_a_surrogate_that_cannot_be_written_leaves_no_poison(tmp_path: Path) -> None:
    asked = plan("sem", steps="2")
    ResultsFolder(tmp_path / "out", create=True)
    (tmp_path / "out" / "networks").write_text("in the way")
    summary = api.run(asked, tmp_path / "out", device="cpu")
    assert len(summary.failures) == 1
    assert not ResultsFolder(tmp_path / "out").has_poison(asked.cells[0].poison.key)


def test_methods_without_a_surrogate_of_their_own_keep_none(tmp_path: Path) -> None:
    run(plan("random"), tmp_path)
    assert not (tmp_path / "networks").exists()


def test_checkpoints_of_one_generator_share_their_updates(tmp_path: Path) -> None:
    """The records say that the time is not of one piece, and the bytes are as from scratch."""
    stops = ("2", "4")
    shared = [run(plan("sem", steps="6", stop=stop), tmp_path / "shared") for stop in stops]
    alone = [run(plan("sem", steps="6", stop=stop), tmp_path / stop) for stop in stops]
    for one, other in zip(shared, alone, strict=True):
        assert one.poison["sha256"] == other.poison["sha256"]
        assert one.test_accuracy == other.test_accuracy
    assert [record.poison["resumed"] for record in shared] == [False, True]
    assert [record.poison["resumed"] for record in alone] == [False, False]
    for stop, record in zip(stops, shared, strict=True):
        assert record.attack.startswith(f"sem[steps=6,stop={stop},")
    whole = plan("sem", steps="6").cells[0].poison
    assert whole.trajectory_key == whole.key
    names = {path.name for path in (tmp_path / "shared" / "networks").iterdir()}
    assert names >= {f"{whole.key}-{stop}.safetensors" for stop in stops}


def test_what_is_kept_and_measured_does_not_count_as_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Harness.keep_surrogate

    def slow_keep(harness: Harness, *rest: Any) -> None:
        with harness.times.on("keeping"):
            time.sleep(5)
        keep(harness, *rest)

    def slow_measure(*images: Any) -> dict[str, float]:
        time.sleep(5)
        return measure_quality(*images)

    monkeypatch.setattr(Harness, "keep_surrogate", slow_keep)
    monkeypatch.setattr("unlearnable_bench.running.worker.measure_quality", slow_measure)
    record = run(plan("sem", steps="1"), tmp_path)
    assert record.poison["seconds"] < 4
    assert sum(record.seconds.values()) < 4


SCHEDULE = Training(steps=30, batch_size=10, lr=0.05, pgd_steps=3)


def test_a_reference_trained_adversarially_withstands_what_the_clean_one_does_not(
    tmp_path: Path,
) -> None:
    images, radius = random_images(count=60, seed=2), Radius("16/255")
    found = {}
    for rho_a in (Radius("0"), radius):
        harness = make_harness("fp32", pad=0, flip=False)
        harness.training = replace(SCHEDULE, steps=300)
        harness.weights = tmp_path / f"{rho_a.levels}.safetensors"
        model = clean_network(images, harness, rho_a)
        assert not model.training
        found[rho_a] = loss_under_attack(model, harness, images, radius)
    assert found[radius] < 0.8 * found[Radius("0")]


def loss_under_attack(model: nn.Module, harness: Harness, images: Any, radius: Radius) -> float:
    pixels, y = harness.tensors(images)

    def gradient(at: torch.Tensor) -> torch.Tensor:
        return input_gradient(model, at, y)

    x = harness.unit(pixels)
    x = pgd(x, gradient, float(radius), radius.step(10), 10, harness.random("attack"))
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x), y))


def test_a_reference_is_trained_once_for_each_radius(tmp_path: Path) -> None:
    images = random_images()
    harness = make_harness()
    harness.training, harness.weights = SCHEDULE, tmp_path / "key.safetensors"
    first = clean_network(images, harness, Radius("4/255"))
    written = harness.weights.stat().st_mtime_ns
    again = make_harness()
    again.training, again.weights = None, harness.weights  # would take 40,000 steps
    second = clean_network(images, again, Radius("4/255"))
    assert harness.weights.stat().st_mtime_ns == written
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


def test_the_address_of_a_reference_depends_on_its_radius_and_schedule() -> None:
    poison = plan("tap").cells[0].poison
    usual = poison.network_key(poison.training)
    assert usual == poison.clean_network_key
    assert poison.network_key(poison.training, Radius("0")) == usual
    robust = poison.network_key(poison.training, Radius("4/255"))
    assert poison.network_key(poison.training, Radius("8/510")) == robust
    others = {
        usual,
        robust,
        poison.network_key(poison.training, Radius("2/255")),
        poison.network_key(SCHEDULE, Radius("4/255")),
    }
    assert len(others) == 4
    assert np.all([len(key) == 32 for key in others])
