"""AutoAttack on a kept learner: its figures, its file, its refusals."""

import json
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import arrays
from typer.testing import CliRunner

from unlearnable_bench import Radius, Random, UserError, api
from unlearnable_bench.cli import app
from unlearnable_bench.harness import Network, input_gradient, pgd
from unlearnable_bench.learners.small_cnn import SmallCNN
from unlearnable_bench.planning.grid import load_data
from unlearnable_bench.results.autoattack import ROBUST_ACCURACIES, RobustAccuracy
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import autoattack
from unlearnable_bench.running.autoattack import attacked, find_cell, measure
from unlearnable_bench.storage.damage import collected

needs_package = pytest.mark.skipif(not find_spec("pyautoattack"), reason="pyautoattack is extra")
CPU = torch.device("cpu")
RHO = Radius("16/255")
IMAGES = 20
FEW = ("--set", "shapes.train=20", "--set", "shapes.test=10")


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoattack, "QUERIES", 10)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.npz, and in out a learner that is kept and, at rho_a 1/255, not."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "tiny.npz", **arrays(test=60))
    settings = {"training.epochs": "4", "small-cnn.width": "4"}
    for rho_a, keep in ((Radius("0"), True), (Radius("1/255"), False)):
        plan = api.make_plan(
            methods=["clean"], dataset=f"npz:{folder}/tiny.npz", settings=settings, rho_a=[rho_a]
        )
        assert not api.run(plan, folder / "out", device="cpu", keep_learners=keep).failures
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultsFolder:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return ResultsFolder(Path("out"))


def keys() -> tuple[str, str]:
    """Return the key of the cell with a kept learner, and of that without."""
    records = ResultsFolder(Path("out")).records()
    by_rho_a = {record.rho_a: record.key for record in records}
    return by_rho_a["0"], by_rho_a["1/255"]


def work(folder: ResultsFolder, **changed: Any) -> autoattack.Attacked:
    given = {"rho": RHO, "images": IMAGES, "seed": 0} | changed
    return attacked(folder, find_cell(folder, keys()[0]), load_data("npz:tiny.npz"), **given)


def test_a_learner_of_other_code_is_refused(
    place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an edited --plugin file: the same name, options and version, another hash."""
    learners = autoattack.learners
    choose = learners.choose

    def edited(*given: Any) -> Any:
        return replace(choose(*given), source="0" * 64)

    monkeypatch.setattr(learners, "choose", edited)
    with pytest.raises(UserError, match="was trained with other code of small-cnn; give the plug"):
        work(place)


def the_images(given: autoattack.Attacked) -> tuple[Network, torch.Tensor, torch.Tensor]:
    """Return the network, the images and the labels of an attack."""
    network = SmallCNN(width=4).build(4, 16)
    network.load_state_dict(given.weights)
    order = Random(0, "autoattack images").permutation(60).numpy()
    chosen = given.data.test.subset(order[:IMAGES])
    x = torch.tensor(chosen.images).permute(0, 3, 1, 2).contiguous() / 255
    return Network(network, bf16=False).eval(), x, torch.tensor(chosen.labels)


@needs_package
def test_robust_accuracy_is_that_of_the_packages_own_evaluation_and_at_most_pgds(
    place: ResultsFolder,
) -> None:
    given = work(place)
    before = Path(f"out/cells/{keys()[0]}.json").read_bytes()
    found, now = measure(given, place, CPU)
    assert now
    model, x, y = the_images(given)
    with torch.no_grad():
        clean = 100 * float((model(x).argmax(1) == y).double().mean())
    assert found.clean_accuracy == pytest.approx(clean)
    step = RHO.step_size(20)
    attacked_x = pgd(
        x, lambda at: input_gradient(model, at, y), float(RHO), step, 20, Random(0, "pgd")
    )
    with torch.no_grad():
        by_pgd = 100 * float((model(attacked_x).argmax(1) == y).double().mean())
    assert found.robust_accuracy <= by_pgd < clean  # the attack does something here
    theirs = import_module("pyautoattack").AutoAttack(model, norm="Linf", eps=float(RHO), seed=0)
    theirs.square.n_queries = 10
    theirs.apgd_targeted.n_target_classes = theirs.fab.n_target_classes = 3
    with torch.random.fork_rng(devices=[]):
        adversarial, _ = theirs.run_standard_evaluation(x, y)
    with torch.no_grad():
        reference = 100 * float((model(adversarial).argmax(1) == y).double().mean())
    assert found.robust_accuracy == pytest.approx(reference)
    assert list(found.after) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    left = list(found.after.values())
    assert left == sorted(left, reverse=True)
    assert left[-1] == found.robust_accuracy
    assert Path(f"out/cells/{keys()[0]}.json").read_bytes() == before


class Interrupting:
    """Progress that is interrupted in one loop, as by Ctrl-C."""

    def track(self, label: str, _total: int, steps: Iterable[int]) -> Iterator[int]:
        for step in steps:
            yield step
            if (label, step) == ("apgd-t", 0):
                signal.raise_signal(signal.SIGINT)


@needs_package
def test_an_interrupted_measurement_resumes_to_the_same_result(
    place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoattack, "_BATCH", 3)
    monkeypatch.setattr(autoattack.Attacked, "attacks", ("apgd-ce", "apgd-t"))
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)
    given = work(place, rho=Radius("1/255"), images=9)
    with pytest.raises(KeyboardInterrupt, match="saved: apgd-t, 1 of "):
        measure(given, place, CPU, Interrupting())
    resumed, _ = measure(given, place, CPU)
    ROBUST_ACCURACIES.path(place.path, resumed.key).unlink()
    whole, _ = measure(given, place, CPU)
    assert resumed.after == whole.after
    assert resumed.after["apgd-ce"] > 0
    assert not list(Path("out/work").glob("*.safetensors"))


def stored(place: ResultsFolder) -> RobustAccuracy:
    """Write a measurement as if it had been made."""
    given = work(place)
    found = RobustAccuracy(
        format=1,
        key=autoattack.key_of(given.identity),
        identity=autoattack.as_json(given.identity),
        cell=given.record.key,
        rho="16/255",
        images=IMAGES,
        clean_accuracy=90.0,
        robust_accuracy=20.0,
        after={"apgd-ce": 30.0, "square": 20.0},
        warnings=["gradients may be masked"],
        seconds=2.0,
        environment={},
        created="2026-01-01T00:00:00+00:00",
    )
    ROBUST_ACCURACIES.write(place.path, found)
    return found


def ubench(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


def on_tiny(key: str, *more: object) -> Any:
    return ubench(
        *("autoattack", "out", key, "--rho", RHO, "--images", IMAGES, "--device", "cpu"),
        *("--dataset", "npz:tiny.npz", *more),
    )


@needs_package
def test_a_finished_measurement_is_printed_and_not_made_again(place: ResultsFolder) -> None:
    found = stored(place)
    done = on_tiny(keys()[0][:6])
    assert done.exit_code == 0, done.output
    assert "images  20 of 60 test images of npz:tiny, seed 0\n" in done.output
    line = "robust accuracy 20.0 % (clean 90.0 %; after apgd-ce 30.0, square 20.0) in 2 s\n"
    assert line in done.output
    assert "warning: gradients may be masked\n" in done.output
    assert f"measured before: out/autoattack/{found.key}.json" in done.output
    assert json.loads(on_tiny(keys()[0], "--json").stdout)["robust_accuracy"] == 20.0


@needs_package
def test_the_key_is_that_of_all_that_determines_the_result(place: ResultsFolder) -> None:
    changes = [{}, {"rho": Radius("8/255")}, {"images": 19}, {"seed": 1}]
    found = {autoattack.key_of(work(place, **change).identity) for change in changes}
    assert len(found) == 4
    assert work(place, images=1000).images == 60


@needs_package
def test_a_damaged_measurement_is_made_again(
    place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stored(place)
    path = ROBUST_ACCURACIES.path(place.path, found.key)
    path.write_text(path.read_text().replace("20.0", "21.0"))
    monkeypatch.setattr(autoattack, "_measured", lambda *_: found)
    with collected() as lines:
        assert measure(work(place), place, CPU) == (found, True)
    assert "is damaged (its content does not match its checksum); moved to" in lines[0]


@needs_package
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("out", "zz"), "out has no cell with the key 'zz'; `ubench learners out` prints the keys"),
        (("out", ""), "out has no cell with the key ''"),
        (("gone", "ab"), "gone is not a results folder"),
        (("out", "KEPT"), "is of npz:tiny, which is no data set with a name; give it as --dataset"),
        (("out", "KEPT", "--dataset", "shapes", *FEW), "] is not the data of cell"),
        (("out", "KEPT", "--dataset", "npz:tiny.npz", "--rho", "0"), "--rho 0 is no attack"),
        (("out", "KEPT", "--rho", "0.03"), "'0.03' is not a radius"),
        (("out", "OTHER"), "is not kept; move its record out of out/cells and run again with"),
    ],
)
def test_what_cannot_be_attacked_is_refused_before_any_work(
    place: ResultsFolder, arguments: tuple[str, ...], words: str
) -> None:
    kept, other = keys()
    given = [{"KEPT": kept, "OTHER": other}.get(word, word) for word in arguments]
    done = ubench("autoattack", *given, "--device", "cpu")
    assert isinstance(done.exception, UserError)
    assert words in str(done.exception)
    assert not (place.path / "autoattack").exists()


def test_without_the_extra_package_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    error = ubench("autoattack", "out", "ab", "--device", "cpu").exception
    assert isinstance(error, UserError)
    assert "pip install 'unlearnable-bench[autoattack]'" in str(error)


@needs_package
@pytest.mark.parametrize(("classes", "targeted"), [(3, False), (4, True)])
def test_the_targeted_dlr_loss_is_left_out_below_four_classes(
    place: ResultsFolder, classes: int, *, targeted: bool
) -> None:
    given = work(place)
    object.__setattr__(given.data.test, "classes", classes)
    assert ("apgd-t" in given.attacks) == targeted
