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
from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness, input_gradient, pgd
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.samples import measure_quality
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import training
from unlearnable_bench.running.surrogate import clean_checkpoints, clean_network, final_surrogate
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


@pytest.mark.parametrize("method", ["em", "sem", "rem"])
def test_a_run_keeps_the_surrogate_of_a_poison(method: str, tmp_path: Path) -> None:
    short = {"rounds": "1", "batches": "3"} if method == "em" else {"steps": "3"}
    asked = plan(method, **short)
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
    x = pgd(x, gradient, float(radius), radius.step_size(10), 10, harness.random("attack"))
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


def test_checkpoints_are_those_of_one_training(tmp_path: Path) -> None:
    """Trained in memory, in a folder, and read again from the folder, they are the same."""
    images = random_images(count=40)
    whole = replace(SCHEDULE, steps=None, epochs=4, lr=0.01)
    found: list[list[dict[str, torch.Tensor]]] = []
    for weights, schedule in (
        (None, whole),
        (tmp_path / "key.safetensors", whole),
        (tmp_path / "key.safetensors", replace(whole, lr=9.0)),  # read, not trained
    ):
        harness = make_harness()
        harness.training, harness.weights = schedule, weights
        models = clean_checkpoints(images, harness, [2, 4, 1, None])
        assert not any(model.training for model in models)
        found.append([model.state_dict() for model in models])
    for models_ in found[1:]:
        for one, other in zip(found[0], models_, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)
    second, last, first, final = found[0]
    assert all(torch.equal(last[name], final[name]) for name in last)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(second[name], last[name]) for name in first)
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {
        "key.safetensors", "key-1.safetensors", "key-2.safetensors"
    }  # fmt: skip
    assert not [*tmp_path.glob("*.partial")]


def test_an_interrupted_training_leaves_the_checkpoints_that_it_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = random_images(count=40)

    def checkpoints(folder: Path, epochs: list[int]) -> list[Any]:
        harness = make_harness()
        harness.training = replace(SCHEDULE, steps=None, epochs=4)
        harness.weights = folder / "key.safetensors"
        return [model.state_dict() for model in clean_checkpoints(images, harness, epochs)]

    expected = checkpoints(tmp_path / "whole", [1, 3])
    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))  # writes at every step
    test = training.accuracy
    calls = []

    def killed(*given: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return test(*given)

    with monkeypatch.context() as patch:
        patch.setattr(training, "accuracy", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints(tmp_path / "cut", [1, 3])
    (partial,) = (tmp_path / "cut").glob("*.partial")
    assert (tmp_path / "cut" / "key-1.safetensors").exists()
    # Other epochs do not resume from it: the training that it belongs to never wrote epoch 2.
    for epochs in ([2], [1, 3]):
        resumed = checkpoints(tmp_path / "cut", epochs)
    assert not partial.exists()
    for one, other in zip(expected, resumed, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_network_of_some_images_is_not_taken_for_that_of_all(tmp_path: Path) -> None:
    images = random_images(count=40)
    harness = make_harness()
    harness.training, harness.weights = SCHEDULE, tmp_path / "key.safetensors"
    harness.images = images
    whole = clean_network(images, harness).state_dict()
    part = clean_network(images.subset(np.arange(30)), harness).state_dict()
    assert any(not torch.equal(whole[name], part[name]) for name in whole)
    again = clean_network(images, harness).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert len([*tmp_path.glob("key*.safetensors")]) == 2


@pytest.mark.parametrize("epoch", [0, 4, -1, 1.5])
def test_an_epoch_that_the_schedule_has_not_is_refused(epoch: Any) -> None:
    harness = make_harness()
    harness.training = replace(SCHEDULE, steps=None, epochs=3)
    with pytest.raises(UserError, match=f"no epoch {epoch}: its schedule has 1 to 3"):
        clean_checkpoints(random_images(), harness, [1, epoch])
    with pytest.raises(UserError, match="the subset is empty"):
        clean_network(random_images().subset(np.arange(0)), harness)


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


def test_a_folder_in_place_of_a_network_is_set_aside_when_its_noise_is_made_again(
    tmp_path: Path,
) -> None:
    few = {"shapes.train": "20", "shapes.test": "10", "training.epochs": "1", "em.rounds": "1"}
    plan = api.make_plan(
        methods=["em"], dataset="shapes", preset="smoke", settings=few, clean=False
    )
    assert not api.run(plan, tmp_path, device="cpu").failures
    folder, (cell,) = ResultsFolder(tmp_path), plan.cells
    network = folder.network(cell.poison.key)
    for path in (network, *tmp_path.glob("cells/*"), *tmp_path.glob("poisons/*")):
        path.unlink()
    network.mkdir()
    assert not api.run(plan, tmp_path, device="cpu").failures
    assert network.is_file()
    assert (network.parent / "damaged" / network.name).is_dir()
