"""Detection of poisons: its command, its files, the table, refusals."""

import json
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import arrays
from typer.testing import CliRunner

from unlearnable_bench import UserError, api
from unlearnable_bench.cli import app
from unlearnable_bench.curation.detection import Given, measurements_of
from unlearnable_bench.identity import as_json, key_of
from unlearnable_bench.planning import registry
from unlearnable_bench.reports.detection import heading
from unlearnable_bench.results.detection import (
    DETECTIONS,
    Detection,
)
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.detection import Examined, measure
from unlearnable_bench.running.worker import Worker
from unlearnable_bench.storage.damage import collected

CPU = torch.device("cpu")
SHORT = ("--set", "training.epochs=2", "--device", "cpu")
NARROW = ("--set", "mlp2.width=8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.npz, and in out cells of three poisons of which no file is kept."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "tiny.npz", **arrays(train=60, test=8))
    noise = np.load(folder / "tiny.npz")["x_train"] ^ 1
    np.savez(folder / "mine.npz", images=noise)
    plan = api.make_plan(
        methods=["random", "class-random", f"mine=file:{folder}/mine.npz"],
        dataset=f"npz:{folder}/tiny.npz",
        settings={"training.epochs": "1", "small-cnn.width": "4"},
        seeds=[0, 1],
        preset="smoke",
    )
    assert not api.run(plan, folder / "out", device="cpu").failures
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("out")


def ubench(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


def ubench_detect(*more: object) -> Any:
    return ubench("detect", "out", "--dataset", "npz:tiny.npz", *SHORT, *more)


def few(seed: int = 0, name: str = "random", test: str = "linear") -> list[Examined]:
    given = Given((test,), seed=seed, settings={"training.epochs": "2"}, dataset="npz:tiny.npz")
    return measurements_of(Path("out"), {"attack": [name]}, given)


def test_poisons_without_a_file_are_made_again_and_equal_images_measured_once(place: Path) -> None:
    done = ubench_detect(*NARROW, "--methods", "clean,random,class-random", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    # Clean images of both seeds are equal; two noises each of the others.
    assert len(found) == 4 * (1 + 2 + 2)
    tests = ["linear", "two-layer", "shift -0.5 small-cnn", "shift +0.5 small-cnn"]
    options = ["epochs=2", "epochs=2,width=8", "epochs=2,width=4", "epochs=2,width=4"]
    names = [f"{test}[{option}]" for test, option in zip(tests, options, strict=True)]
    assert [one["test"] for one in found[:4]] == names
    assert {one["held_out"] for one in found} == {12}
    records = {r.poison["sha256"]: r.attack for r in ResultsFolder(place).records()}
    assert [records[one["images"]] for one in found[::4]] == [
        *("clean", "random", "random", "class-random", "class-random")
    ]
    frame = api.load_records(place).set_index(["attack", "seed"])["detection"]
    assert frame["clean", 0] == frame["clean", 1]
    assert frame["class-random", 1][names[0]] == found[16]["accuracy"]
    assert frame["mine", 0] == {}
    again = ubench_detect(*NARROW, "--methods", "clean,random,class-random")
    assert again.output.count("(measured before)") == 20
    assert "Accuracy on held-out poisoned training images (%)" in again.output


def test_measurements_are_checked_shown_archived_and_removed(place: Path) -> None:
    assert ubench_detect("--tests", "linear", "--methods", "clean,random").exit_code == 0
    assert "3 detection measurements" in ubench("verify", "out").output
    mine = DETECTIONS.all(place)
    assert ubench("archive", "out", "a.tar", "--records-only").exit_code == 0
    assert "3 detection measurements" in ubench("merge", "copy", "a.tar").output
    assert DETECTIONS.all(Path("copy")) == mine
    shown = ubench("show", "out", mine[0].key[:12]).output
    assert f"{mine[0].accuracy}" in shown
    assert ubench("rm", "out", "--attack", "random", "--seeds", "1", "--yes").exit_code == 0
    assert len(DETECTIONS.all(place)) == 2
    assert ubench("rm", "out", "--attack", "clean", "--seeds", "1", "--yes").exit_code == 0
    assert len(DETECTIONS.all(place)) == 2  # the clean images of seed 0 are the same
    path = DETECTIONS.path(place, mine[0].key)
    path.write_text(path.read_text().replace('"held_out": 12', '"held_out": 13'))
    damaged = ubench("verify", "out")
    assert (damaged.exit_code, f"{path} is damaged" in damaged.output) == (2, True)


def test_the_same_command_gives_the_same_accuracy_elsewhere_and_another_seed_another_key(
    place: Path,
) -> None:
    one, other = few(), few(seed=1)
    first = [found.accuracy for found in measure(one, ResultsFolder(place), CPU)]
    shutil.rmtree(place / "detection")
    assert [found.accuracy for found in measure(one, ResultsFolder(place), CPU)] == first
    assert not {item.key for item in one} & {item.key for item in other}
    assert other[0].test.name == "linear[epochs=2,seed=1]"


def test_a_damaged_measurement_is_made_again(place: Path) -> None:
    work = few()[:1]
    (before,) = measure(work, ResultsFolder(place), CPU)
    path = DETECTIONS.path(place, before.key)
    path.write_text(path.read_text().replace('"held_out": 12', '"held_out": 13'))
    with collected() as lines:
        assert api.load_records(place)["detection"].map(len).sum() == 0
        (again,) = measure(work, ResultsFolder(place), CPU)
    assert again.accuracy == before.accuracy
    assert "it is left out" in lines[0]
    assert "it is measured again" in lines[1]


class Interrupted:
    """Progress that is interrupted in one step, as by Ctrl-C."""

    def track(self, label: str, _total: int, steps: Iterable[int]) -> Iterator[int]:
        for step in steps:
            yield step
            if step == 0 and "linear" in label:
                signal.raise_signal(signal.SIGINT)


def test_an_interrupted_measurement_resumes_to_the_same_result(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)
    work = few()[:1]
    with pytest.raises(KeyboardInterrupt, match="saved: training, 1 of 2 steps"):
        measure(work, ResultsFolder(place), CPU, Interrupted())
    assert list(place.glob("work/*.safetensors"))
    (resumed,) = measure(work, ResultsFolder(place), CPU)
    assert not list(place.glob("work/*.safetensors"))
    DETECTIONS.path(place, resumed.key).unlink()
    (whole,) = measure(work, ResultsFolder(place), CPU)
    fields = ("accuracy", "train_accuracy", "identity")
    assert [getattr(resumed, n) for n in fields] == [getattr(whole, n) for n in fields]


def stored(place: Path, accuracies: dict[tuple[str, int], float], test: str = "linear") -> None:
    """Write measurements as if they had been made."""
    for record in ResultsFolder(place).records():
        if (record.attack, record.seed) in accuracies:
            images = record.poison["sha256"]
            identity = {"images": images, "data": record.identity["poison"]["data"], "test": test}
            found = Detection(
                format=1,
                key=key_of(identity),
                identity=as_json(identity),
                images=images,
                test=test,
                accuracy=accuracies[record.attack, record.seed],
                train_accuracy=100.0,
                held_out=12,
                seconds=1.0,
                environment={},
                created="2026-01-01T00:00:00+00:00",
            )
            DETECTIONS.write(place, found)
            assert DETECTIONS.read(place, found.key) == found


def test_the_table_has_means_over_noises_and_differences_to_clean(place: Path) -> None:
    stored(place, {("clean", 0): 40.0, ("random", 0): 39.0, ("random", 1): 40.0})
    stored(place, {("class-random", 0): 99.5}, "shift +0.5 small-cnn")
    stored(place, {("clean", 0): 30.0}, "two-layer")
    table = ubench("report", "out", "--report", "detection").output
    lines = [line.split("|") for line in table.splitlines() if line.startswith("|")]
    assert [[entry.strip() for entry in line[1:-1]] for line in (lines[0], *lines[2:])] == [
        ["Method", "Linear", "Linear vs clean", "Two-layer", "Shift +0.5, Small CNN"],
        # Of two seeds, whose images are equal.
        ["Clean", "40.0 ± 0.0", "", "30.0 ± 0.0", ""],
        ["Random", "39.5 ± 0.7", "-0.5 ± 0.7", "", ""],
        ["Class-wise random", "", "", "", "99.5"],
    ]
    assert "no test image" in table


def test_headings_name_the_test_and_what_differs() -> None:
    assert heading("linear") == "Linear"
    assert heading("two-layer[epochs=20,width=8]") == "Two-layer (epochs=20,width=8)"
    assert heading("shift -0.5 resnet18[seed=1]") == "Shift -0.5, ResNet-18 (seed=1)"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tests", "quadratic"), "unknown test 'quadratic'"),
        (("--methods", "sem"), "unknown attack 'sem'"),
        (("--methods", "mine"), "give --file mine=PATH, or leave it out by --methods"),
        (("--methods", "mine", "--file", "mine"), "--file mine: write ROW=PATH"),
        (("--set", "training.epochs=0"), "training.epochs"),
        (("--set", "resnet18.width=3"), "--set resnet18.width: no test trains resnet18"),
        (("--set", "npz.colour=3"), "npz"),
        (("--learner", "nope"), "unknown learner 'nope'"),
        (("--device", "tpu"), "unknown device 'tpu'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(
    place: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = ubench("detect", "out", "--dataset", "npz:tiny.npz", "--device", "cpu", *arguments)
    assert isinstance(done.exception, UserError)
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (place / "detection").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("out",), "is of npz:tiny, which is no data set with a name; give it as --dataset"),
        (("gone",), "gone is not a results folder"),
        (("out", "--dataset", "shapes", "--set", "shapes.train=20"), "is not the data of cell"),
    ],
)
def test_other_data_are_refused(place: Path, arguments: tuple[str, ...], words: str) -> None:
    done = ubench("detect", *arguments, "--device", "cpu")
    assert isinstance(done.exception, UserError)
    assert words in str(done.exception)
    assert not (place / "detection").exists()


def test_a_poison_from_a_file_needs_its_path_and_a_dry_run_measures_nothing(place: Path) -> None:
    arguments = ("--methods", "mine", "--file", "mine=mine.npz", "--tests", "linear")
    dry = ubench_detect(*arguments, "--dry-run")
    assert "to do   1 of 1 measurement\n" in dry.output
    assert "        mine, seed 0, linear[epochs=2]\n" in dry.output
    (missing,) = json.loads(ubench_detect(*arguments, "--dry-run", "--json").stdout)["missing"]
    assert missing["name"] == "mine, seed 0, linear[epochs=2]"
    assert not (place / "detection").exists()
    assert ubench_detect(*arguments).exit_code == 0
    assert [one.key for one in DETECTIONS.all(place)] == [missing["key"]]
    after = ubench_detect(*arguments, "--dry-run", "--json")
    assert json.loads(after.stdout) == {"measurements": 1, "missing": []}


PLUGIN = '''
from dataclasses import dataclass

import numpy as np
from unlearnable_bench import Attack, Poison, Radius


@dataclass(frozen=True, kw_only=True)
class Darker(Attack):
    """One level darker, by chance."""

    surrogate = "none"

    def generate(self, images, harness):
        draws = np.random.default_rng(harness.seed).integers(-1, 1, images.images.shape)
        return Poison.from_noise(images, draws, Radius("1/255"))
'''


def test_poisons_of_a_plugin_file_are_made_again_by_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.attacks, "_from_files", {})
    Path("darker.py").write_text(PLUGIN)
    short = ("--preset", "smoke", "--dataset", "npz:tiny.npz", "--set", "training.epochs=1")
    plugin = ("--plugin", "darker.py")
    run = ubench("run", *short, *plugin, "--methods", "darker", "--seeds", "0,1", "--out", "out")
    assert run.exit_code == 0, run.output
    monkeypatch.setattr(registry.attacks, "_from_files", {})
    arguments = ("--methods", "darker", "--tests", "linear")
    assert "give --plugin FILE" in str(ubench_detect(*arguments).exception)
    done = ubench_detect(*arguments, *plugin)
    assert done.exit_code == 0, done.exception
    assert len(DETECTIONS.all(place)) == 2


def test_another_file_than_the_records_is_refused(place: Path) -> None:
    np.savez("mine.npz", images=np.load("tiny.npz")["x_train"] ^ 2)
    done = ubench_detect("--methods", "mine", "--file", "mine=mine.npz", "--tests", "linear")
    assert isinstance(done.exception, UserError)
    assert "poison.attack.fingerprint is" in str(done.exception)
    assert not (place / "detection").exists()


def test_other_pixels_than_the_records_are_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "poison", lambda _, plan: (plan.data.train.images, {}))
    with pytest.raises(UserError, match="random, seed 0: the images here are not those of its"):
        measure(few(), ResultsFolder(place), CPU)
    assert not (place / "detection").exists()


def test_a_report_without_measurements_names_the_command(place: Path) -> None:
    error = ubench("report", place, "--report", "detection").exception
    assert str(error) == "no detection was measured; run `ubench detect FOLDER`"
