"""What is written of cells that fail, and of plans, so that reports can tell."""

import errno
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlearnable_bench import api
from unlearnable_bench.attacks.random import Random
from unlearnable_bench.errors import UserError
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import worker

NO_NOISE = "no noise today"


@pytest.fixture
def data(tmp_path: Path) -> str:
    random = np.random.default_rng(0)
    images = random.integers(256, size=(30, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(30) % 3
    path = tmp_path / "tiny.npz"
    names = np.array(["ant", "bee", "cat"])
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels, class_names=names)
    return f"npz:{path}"


def plan(data: str, **asked: Any) -> Plan:
    settings = {"training.epochs": "1", "small-cnn.width": "4"}
    radii = [Radius("0"), Radius("2/255")]
    usual: dict[str, Any] = {"methods": ["random"], "rho_a": radii, "settings": settings}
    return api.make_plan(dataset=data, **usual | asked)


def fail(*_args: object) -> None:
    raise UserError(NO_NOISE)


def test_a_failure_is_kept_with_its_reason_and_whole_traceback(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_a_number(*_args: object) -> None:
        try:
            {}["number"]
        except KeyError as error:
            raise ValueError("two\nlines") from error

    monkeypatch.setattr(worker, "train", lose_a_number)
    asked = plan(data)
    summary = api.run(asked, tmp_path / "out", device="cpu")
    failures = ResultsFolder(tmp_path / "out").failures()
    assert failures.keys() == {cell.key for cell in asked.cells}
    for failed in summary.failures:
        found = failures[failed.cell.key]
        assert found["labels"] == failed.cell.labels
        assert found["reason"] == failed.reason
        assert "\n" not in found["reason"]
        assert found["reason"].startswith("ValueError: two lines (")
        lines = found["traceback"].splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert "KeyError: 'number'" in lines
        assert sum("lose_a_number" in line for line in lines) == 2
        assert datetime.fromisoformat(found["created"]).tzinfo is not None


@pytest.mark.parametrize("pack", [1, 2])
def test_every_cell_of_a_failed_poison_has_the_traceback_of_the_poison(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: int
) -> None:
    monkeypatch.setattr(Random, "generate", fail)
    asked = plan(data, clean=False)
    api.run(asked, tmp_path / "out", device="cpu", pack=pack)
    failures = ResultsFolder(tmp_path / "out").failures()
    assert failures.keys() == {cell.key for cell in asked.cells}
    for found in failures.values():
        assert found["reason"] == NO_NOISE
        assert f'{__file__}", line ' in found["traceback"]
        assert "in fail" in found["traceback"]


def test_a_finished_cell_is_no_failure_any_more(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = plan(data), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Random, "generate", fail)
        api.run(asked, out, device="cpu")
    frame = api.load_records(out, unfinished=True)
    assert sorted(frame["status"]) == ["done", "done", "failed", "failed"]
    assert {*frame["reason"]} == {"", NO_NOISE}
    assert not api.run(asked, out, device="cpu").failures
    assert ResultsFolder(out).failures() == {}
    assert {*api.load_records(out, unfinished=True)["status"]} == {"done"}


def test_a_failure_takes_the_place_of_an_older_one(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = plan(data, clean=False, rho_a=[Radius("0")]), tmp_path / "out"
    for reason in ("first", "second"):

        def fail_for_it(*_args: object, reason: str = reason) -> None:
            raise UserError(reason)

        monkeypatch.setattr(Random, "generate", fail_for_it)
        api.run(asked, out, device="cpu")
    (found,) = ResultsFolder(out).failures().values()
    assert found["reason"] == "second"


def test_a_failure_that_cannot_be_written_does_not_cost_the_other_cells(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Random, "generate", fail)
    monkeypatch.setattr(ResultsFolder, "write_failure", no_space)
    monkeypatch.setattr(ResultsFolder, "clear_failure", no_space)
    summary = api.run(plan(data), tmp_path / "out", device="cpu")
    assert summary.computed == 2
    assert [failure.reason for failure in summary.failures] == [NO_NOISE] * 2
    assert ResultsFolder(tmp_path / "out").failures() == {}


def test_a_damaged_failure_is_named(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "out", create=True)
    folder.write_failure("a", {}, "why", "trace")
    path = tmp_path / "out" / "failures" / "a.json"
    for text in ("{", "[]", '{"reason": "why"}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"a\.json is damaged .*; remove it"):
            folder.failures()


def test_a_plan_is_written_with_labels_time_and_command(data: str, tmp_path: Path) -> None:
    asked, out = plan(data), tmp_path / "out"
    api.run(asked, out, device="cpu", command="ubench run --methods random")
    (written,) = ResultsFolder(out).plans().values()
    assert written["cells"] == [cell.key for cell in asked.cells]
    assert written["labels"] == [cell.labels for cell in asked.cells]
    assert written["command"] == "ubench run --methods random"
    assert datetime.fromisoformat(written["created"]).tzinfo is not None
    api.run(asked, out, device="cpu", command="another")
    (again,) = ResultsFolder(out).plans().values()
    assert again.pop("last_run") > again["created"]
    assert again == written


def test_labels_of_a_plan_are_those_of_its_records(data: str, tmp_path: Path) -> None:
    asked, out = plan(data, protect=[0.5, 1.0], seeds=[0, 3]), tmp_path / "out"
    api.run(asked, out, device="cpu")
    records = {record.key: record for record in ResultsFolder(out).records()}
    assert len(records) == len(asked.cells)
    for cell in asked.cells:
        record = records[cell.key]
        shown = {name: getattr(record, name) for name in cell.labels}
        assert cell.labels == shown | {"rho_u": str(record.rho_u)}
    assert {cell.labels["attack"] for cell in asked.cells} == {"clean", "remainder", "random"}


def test_a_plan_of_an_older_version_still_tells_which_cells_it_asked_for(
    data: str, tmp_path: Path
) -> None:
    asked, out = plan(data), tmp_path / "out"
    api.run(asked, out, device="cpu")
    path = out / "plans" / f"{asked.key}.json"
    path.write_text(json.dumps({"cells": [cell.key for cell in asked.cells]}))
    for unfinished in (False, True):
        frame = api.load_records(out, unfinished=unfinished)
        assert [*frame["key"]] == [cell.key for cell in asked.cells]
