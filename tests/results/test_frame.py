"""Cells of results folders as a frame: order, several folders, what is not finished, selection."""

import gc
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from report_cells import cell, frame

from unlearnable_bench import UserError, api
from unlearnable_bench.identity import key_of
from unlearnable_bench.reports.tidy import CSV
from unlearnable_bench.results import frame as frame_module
from unlearnable_bench.results.frame import _row, load_records, select
from unlearnable_bench.results.records import Bound
from unlearnable_bench.results.store import ResultsFolder

MEASURED = Path(__file__).parent.parent.parent / "benchmarks" / "h200" / "cifar10-fast"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Measured records, without their plans."""
    shutil.copytree(MEASURED, tmp_path / "fast")
    shutil.rmtree(tmp_path / "fast" / "plans")
    return tmp_path / "fast"


def plan(folder: Path, keys: list[str], **more: Any) -> None:
    ResultsFolder(folder).write_plan(key_of(dict.fromkeys(keys))[:8], {"cells": keys} | more)


def labels(attack: str) -> dict[str, Any]:
    return {
        "dataset": "cifar10", "attack": attack, "learner": "resnet18", "defense": "none",
        "rho_a": "0", "rho_u": "8/255", "protect": 1.0, "preset": "fast", "seed": 0,
    }  # fmt: skip


def test_cells_are_in_the_order_of_the_plans_and_then_as_they_were_made(folder: Path) -> None:
    made = load_records(folder)
    assert made["created"].is_monotonic_increasing
    keys = made["key"].tolist()
    plan(folder, keys[5:3:-1], created="2026-01-02")
    plan(folder, [keys[9], keys[5]], created="2026-01-01")
    first = [keys[9], keys[5], keys[4]]
    assert load_records(folder)["key"].tolist() == first + [k for k in keys if k not in first]
    assert load_records(folder, keys[3:0:-1])["key"].tolist() == keys[3:0:-1]


def test_what_a_plan_asks_for_and_is_not_there_is_failed_or_missing(folder: Path) -> None:
    done = load_records(folder)["key"].iloc[0]
    asked = [done, "a" * 32, "b" * 32]
    plan(folder, asked, labels=[labels("em"), labels("tap"), labels("ar")])
    ResultsFolder(folder).write_failure("b" * 32, labels("ar"), "it broke", "Traceback ...")
    assert set(load_records(folder)["status"]) == {"done"}
    found = load_records(folder, asked, unfinished=True)
    assert found["status"].tolist() == ["done", "missing", "failed"]
    assert found["attack"].tolist()[1:] == ["tap", "ar"]
    assert found["reason"].tolist() == ["", "", "it broke"]
    assert found["test_accuracy"].isna().tolist() == [False, True, True]


def test_a_cell_has_what_its_attack_and_its_defense_need() -> None:
    made = load_records(MEASURED)
    found = {(r["attack"], r["attack_needs"]) for _, r in made.iterrows()}
    assert {("clean", "nothing"), ("random", "nothing"), ("sem", "labels")} <= found
    needs = dict(zip(made["defense"], made["defense_needs"], strict=True))
    assert needs["none"] == needs["jpeg"] == "nothing"
    assert needs["cutmix"] == "labels"


def test_the_csv_report_has_what_each_row_needs() -> None:
    made = load_records(MEASURED)
    rows = pd.read_csv(io.StringIO(CSV().render(made)))
    columns = ["attack", "defense", "attack_needs", "defense_needs"]
    found = set(rows[columns].itertuples(index=False, name=None))
    assert ("sem", "cutmix", "labels", "labels") in found
    assert ("clean", "none", "nothing", "nothing") in found
    needs = ["attack_needs", "defense_needs", "learner_needs"]
    assert set(rows["learner_needs"]) == {"nothing"}
    without = CSV().render(made.drop(columns=needs))
    assert "needs" not in without
    assert len(without.splitlines()) == len(rows) + 1


def test_combined_defenses_need_what_each_part_needs() -> None:
    def needs(*names: str) -> str:
        parts = {"parts": [{"name": name} for name in names]}
        defense = {"name": "+".join(names), "options": parts}
        attack = {"name": "not-installed"}
        found = frame_module._needs_of_record({"defense": defense, "poison": {"attack": attack}})
        assert found["attack_needs"] == ""
        return found["defense_needs"]

    assert needs("jpeg", "grayscale") == "nothing"
    assert needs("jpeg", "early-stopping", "cutmix") == "clean subset+labels"
    assert needs("not-installed") == ""


def test_of_a_cell_that_two_folders_hold_the_first_ones_counts(folder: Path) -> None:
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    path = min((other / "cells").glob("*.json"))
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"test_accuracy": 1.5, "peak_accuracy": 100.0}))
    assert len(load_records([folder, other])) == len(load_records(folder))
    one, two = (
        found.set_index("key").loc[path.stem]
        for found in (load_records([folder, other]), load_records([other, folder]))
    )
    assert (one["test_accuracy"], one["folder"]) == (record["test_accuracy"], str(folder))
    assert (two["test_accuracy"], two["folder"]) == (1.5, str(other))


def test_a_finished_cell_counts_where_another_folder_lacks_it(folder: Path) -> None:
    lacking = folder.with_name("lacking")
    ResultsFolder(lacking, create=True)
    key = load_records(folder)["key"].iloc[0]
    plan(lacking, [key], labels=[labels("em")])
    assert load_records(lacking, unfinished=True)["status"].tolist() == ["missing"]
    both = load_records([lacking, folder], unfinished=True)
    assert set(both["status"]) == {"done"}


def test_a_measurement_may_be_in_another_folder_than_the_cell(tmp_path: Path) -> None:
    whole, cells, measured = (tmp_path / name for name in ("whole", "cells", "measured"))
    shutil.copytree(MEASURED.with_name("cifar10-correlation"), whole)
    shutil.copytree(whole, cells)
    ResultsFolder(measured, create=True)
    (cells / "robustness").rename(measured / "robustness")
    expected = load_records(whole).drop(columns="folder")
    assert expected["surrogate_accuracy"].notna().any()
    for folders in ([cells, measured], [measured, cells]):
        found = load_records(folders).drop(columns="folder")
        pd.testing.assert_frame_equal(found, expected)
    assert load_records([cells])["surrogate_accuracy"].isna().all()


def test_garbage_is_collected_again_after_loading(folder: Path) -> None:
    load_records(folder)
    assert gc.isenabled()
    (folder / "ubench.json").write_text("[")
    with pytest.raises(UserError):
        load_records(folder)
    assert gc.isenabled()


CELLS = frame(
    cell("clean", 90, rho_a="0"),
    cell("sem[steps=5]", 10, rho_a="4/255"),
    cell("sem", 20, rho_a="8/510"),
    cell("rem", 30, rho_a="0", seed=1),
)


def attacks(found: pd.DataFrame) -> list[str]:
    return list(found["attack"])


def test_rows_come_in_the_order_asked_for() -> None:
    assert attacks(select(CELLS, attack=["rem", "sem"])) == ["rem", "sem[steps=5]", "sem"]
    assert attacks(select(CELLS, attack=["sem[steps=5]", "clean"])) == ["sem[steps=5]", "clean"]
    assert attacks(select(CELLS, seed=["1"])) == ["rem"]
    assert attacks(select(CELLS, attack=[])) == attacks(CELLS)


def test_radii_are_selected_by_value() -> None:
    assert attacks(select(CELLS, rho_a=["4/255"])) == ["sem[steps=5]", "sem"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"attack": ["sem", "nope"]}, "unknown attack 'nope'"),
        ({"rho_a": ["2/255"]}, "unknown rho-a '2/255'"),
        ({"seed": ["7"]}, "unknown seed '7'; available: 0, 1"),
    ],
)
def test_a_value_that_no_cell_has_is_refused(wanted: dict[str, list[str]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        select(CELLS, **wanted)


def test_a_run_notes_what_its_cells_are_called(tmp_path: Path) -> None:
    settings = {"shapes.train": "40", "shapes.test": "10", "training.epochs": "1"}
    asked = api.make_plan(methods=["random"], settings=settings)
    api.run(asked, tmp_path, device="cpu")
    noted = ResultsFolder(tmp_path).plans()[asked.key]["labels"]
    rows = load_records(tmp_path).set_index("key")
    for one in asked.cells:
        for name, value in noted[asked.cells.index(one)].items():
            assert rows.loc[one.key, name] == value


def test_radii_are_numbers_too(folder: Path) -> None:
    found = load_records(folder)
    assert found["rho_a_value"].dtype == found["rho_u_value"].dtype == float
    expected = {"0": 0, "4/255": 4 / 255, "8/255": 8 / 255}
    expected["l2 1.3041323727577427"] = 1.3041323727577427
    for name in ("rho_a", "rho_u"):
        assert found[f"{name}_value"].tolist() == [expected[text] for text in found[name]]
    asked = ["a" * 32, "b" * 32]
    plan(folder, asked, labels=[labels("em") | {"rho_u": ""}, labels("em") | {"rho_a": "1/255"}])
    missing = load_records(folder, asked, unfinished=True)
    assert missing["rho_a_value"].tolist() == [0, 1 / 255]
    assert math.isnan(missing["rho_u_value"][0])


@pytest.mark.parametrize(
    ("bound", "text", "value"),
    [
        (Bound("linf", "16/255"), "16/255", 16 / 255),
        (Bound("l2", 1.3), "l2 1.3", 1.3),
        (Bound("l0", 1.0), "l0 1", 1),
        (Bound("none", None), "none", math.nan),
    ],
)
def test_a_radius_of_each_norm_is_a_number(
    bound: Bound, text: str, value: float, folder: Path
) -> None:
    (record, *_) = ResultsFolder(folder).records()
    row = _row(msgspec.structs.replace(record, rho_u=bound), folder)
    assert row["rho_u"] == text
    np.testing.assert_equal(row["rho_u_value"], value)
