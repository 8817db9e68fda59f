"""Seeds of the noise and of training: plans, keys, and what each of the two determines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_harness
from typer.testing import CliRunner

from unlearnable_bench import Radius, UserError, api, make_plan
from unlearnable_bench.cli import app
from unlearnable_bench.curation.reproduction import plan_of
from unlearnable_bench.curation.selection import keys_of
from unlearnable_bench.curation.status import status_of
from unlearnable_bench.planning import plan_file, registry
from unlearnable_bench.planning.plan import Cell, Plan
from unlearnable_bench.results.frame import load_records, select
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.seal import sealed_json, whole_json

RADII = [Radius("0"), Radius("4/255")]
FEW = {"shapes.train": 60, "shapes.test": 20, "training.epochs": 1}
DEFENSE = ["early-stopping"]  # it holds out images, which training draws
# As they were before noise and training could have different seeds.
KEYS = {
    "clean, small-cnn, rho_a 0, seed 0": "09b9e60cb22d69f5e950d0e5d3bb5220",
    "em, small-cnn, rho_a 0, seed 3": "6fcd59c209c9f2b852009da01e71cffb",
    "em, small-cnn, rho_a 4/255, seed 3": "2d6f79183466845bd1af9fbadfdd8d5d",
    "random, small-cnn, early-stopping, 50 % protected, rho_a 4/255, seed 3": (
        "04e5fb00b666b0eabb44cde1fbe7940b"
    ),
}


def plan(methods: str = "random", **asked: Any) -> Plan:
    return make_plan(methods=methods.split(","), preset="smoke", **{"settings": FEW} | asked)


def pairs(cells: tuple[Cell, ...], method: str) -> list[tuple[int, int]]:
    return [(cell.poison.seed, cell.seed) for cell in cells if cell.method == method]


def test_without_noise_seeds_keys_and_names_are_as_they_were() -> None:
    found = make_plan(
        methods=["em", "random"], seeds=[0, 3], preset="smoke", rho_a=RADII,
        settings={"shapes.train": 100, "shapes.test": 100}, protect=[1, 0.5],
        defenses=["none", "early-stopping"],
    )  # fmt: skip
    assert found.key == "b3ec15ae"
    keys = {cell.name: cell.key for cell in found.cells}
    assert {name: keys[name] for name in KEYS} == KEYS
    assert all("noise_seed" not in cell.labels for cell in found.cells)


def test_noise_seeds_and_seeds_make_their_product_with_learners_of_one_noise_together() -> None:
    cells = plan(noise_seeds=[0, 7], seeds=[0, 1]).cells
    assert pairs(cells, "random") == [(0, 0), (0, 1), (7, 0), (7, 1)]
    assert len({cell.poison.key for cell in cells if cell.method == "random"}) == 2
    names = [cell.name for cell in cells if cell.method == "random"]
    assert names[0] == "random, small-cnn, rho_a 0, seed 0"
    assert names[3] == "random, small-cnn, rho_a 0, noise seed 7, seed 1"
    assert cells[-1].labels["seed"] == 1
    assert cells[-1].labels["noise_seed"] == 7


def test_a_pair_of_equal_seeds_is_the_cell_of_that_seed() -> None:
    crossed = {cell.key for cell in plan(noise_seeds=[0, 1], seeds=[0, 1]).cells}
    assert {cell.key for cell in plan(seeds=[0, 1]).cells} < crossed


def test_noise_that_no_seed_changes_has_one_seed(tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", np.ones((60, 32, 32, 3), np.int8))
    file = f"mine=file:{tmp_path / 'noise.npy'}"
    cells = plan(f"ops,random,{file}", noise_seeds=[0, 7], seeds=[0, 1]).cells
    for method in ("clean", "ops", "mine"):
        assert pairs(cells, method) == [(0, 0), (1, 1)], method
    with pytest.raises(UserError, match="--noise-seeds has no effect: no method of this plan"):
        plan("ops", noise_seeds=[0, 7])


def test_the_seed_of_the_noise_chooses_the_protected_images() -> None:
    cells = plan(noise_seeds=[0, 7], seeds=[1], protect=[0.5]).cells
    baselines = [cell for cell in cells if cell.protection.complement_only]
    assert pairs(tuple(baselines), "clean-subset baseline") == [(0, 1), (7, 1)]
    assert baselines[0].key != baselines[1].key


def test_plan_files_and_the_command_line_take_noise_seeds(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text('methods = "random"\nseeds = "0-2"\nnoise-seeds = [0, 1]\n')
    found = plan_file.arguments(plan_file.read(file), "")
    assert (found["seeds"], found["noise_seeds"]) == ([0, 1, 2], [0, 1])
    line = "run --methods random --seeds 0-2 --noise-seeds 0,5 --preset smoke --dry-run"
    shown = CliRunner().invoke(
        app, [*line.split(), "--out", str(tmp_path / "out")], env={"COLUMNS": "200"}
    )
    assert shown.exit_code == 0, shown.output
    assert "x noise seeds 0, 5 x seeds 0, 1, 2" in shown.output


def test_noise_seeds_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match=r"--noise-seeds 'a'.* such as 0,2-4"):
        plan_file.arguments({"noise-seeds": "a"}, "--")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two noise seeds and two seeds of training, of clean and random noise."""
    out = tmp_path_factory.mktemp("pairs") / "out"
    asked = plan(noise_seeds=[0, 1], seeds=[0, 1], defenses=DEFENSE)
    assert not api.run(asked, out, device="cpu").failures
    return out


def record(out: Path, noise_seed: int, seed: int) -> Record:
    (found,) = [
        one
        for one in ResultsFolder(out).records()
        if one.attack == "random"
        and (one.identity["poison"]["seed"], one.seed) == (noise_seed, seed)
    ]
    return found


def test_learners_of_one_noise_seed_share_the_noise(out: Path) -> None:
    shas = {pair: record(out, *pair).poison["sha256"] for pair in ((0, 0), (0, 1), (1, 0), (1, 1))}
    assert shas[0, 0] == shas[0, 1] != shas[1, 0] == shas[1, 1]


def test_training_draws_with_its_own_seed(out: Path, tmp_path: Path) -> None:
    data = plan().data
    made = registry.attacks.get("random")().generate(data.train, make_harness(seed=1))
    np.save(tmp_path / "noise-of-seed-1.npy", made.images)
    asked = plan(f"file:{tmp_path / 'noise-of-seed-1.npy'}", defenses=DEFENSE, clean=False)
    assert not api.run(asked, tmp_path / "again", device="cpu").failures
    (again,) = ResultsFolder(tmp_path / "again").records()
    wanted = record(out, 1, 0)
    assert again.poison["sha256"] == wanted.poison["sha256"]
    assert again.epoch_accuracy == wanted.epoch_accuracy
    assert again.train_accuracy == wanted.train_accuracy


def test_a_record_holds_the_noise_seed_only_if_it_differs(out: Path) -> None:
    same, other = record(out, 0, 0), record(out, 0, 1)
    assert "noise_seed" not in same.to_json()
    assert (same.noise_seed, other.noise_seed, other.identity["seed"]) == (None, 0, 1)
    assert Record.from_json(other.to_json().encode()) == other
    assert same.setting == other.setting


def test_a_record_whose_noise_seed_contradicts_its_identity_is_refused(out: Path) -> None:
    fields = json.loads(whole_json(record(out, 0, 1).to_json().encode()) or "")
    for wrong in ({"noise_seed": 5}, {"noise_seed": None}, {"seed": 0}):
        text = sealed_json(fields | wrong).encode()
        with pytest.raises(ValueError, match="seed or noise_seed differs from its identity"):
            Record.from_json(text)


def test_the_frame_has_both_seeds_and_selects_by_either(out: Path) -> None:
    frame = load_records(out)
    found = frame[frame["attack"] == "random"]
    seeds = sorted(zip(found["noise_seed"], found["seed"], strict=True))
    assert seeds == [(0, 0), (0, 1), (1, 0), (1, 1)]
    chosen = select(frame, noise_seed=["1"], seed=["0"]).to_dict("records")
    assert [(one["attack"], one["noise_seed"], one["seed"]) for one in chosen] == [("random", 1, 0)]


def test_a_report_selects_noise_seeds_and_says_what_it_averages(out: Path) -> None:
    whole = reported(out)
    averaged = "Learners of one noise are averaged first: the seeds that count are the noise's."
    assert "2 noise seeds x 2 learner seeds (Clean: 2 seeds), with the sample standard" in whole
    assert averaged in whole
    some = reported(out, "--noise-seeds", "1", "--methods", "random")
    assert "Mean over 1 noise seed x 2 learner seeds, with" in some
    assert "With one noise seed, the spread is that of its learners" in some
    assert averaged not in some
    unknown = CliRunner().invoke(app, ["report", str(out), "--noise-seeds", "9"])
    assert str(unknown.exception) == "unknown noise-seed '9'; available: 0, 1"


def reported(out: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["report", str(out), *more])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_record_is_planned_again_with_both_seeds(out: Path) -> None:
    for pair in ((0, 0), (0, 1), (1, 0), (1, 1)):
        one = record(out, *pair)
        (cell,) = plan_of(one).cells
        assert cell.key == one.key


def test_commands_about_a_folder_name_and_select_the_seed_of_the_noise(out: Path) -> None:
    key = record(out, 1, 0).key
    shown = CliRunner().invoke(app, ["show", str(out), key], env={"COLUMNS": "400"})
    assert "--noise-seeds 1 --seeds 0" in shown.stdout
    assert status_of(out).done[key].endswith("early-stopping, rho_a 0, noise seed 1, seed 0")
    chosen = {record(out, 1, 0).key, record(out, 1, 1).key}
    assert chosen == set(keys_of(out, {"noise_seed": ["1"], "attack": ["random"]}))
    removal = CliRunner().invoke(app, ["rm", str(out), "--noise-seeds", "1", "--methods", "random"])
    assert (removal.exit_code, len(list((out / "cells").glob("*.json")))) == (0, 6), removal.output
