"""Commands about a results folder: status, show, verify and rm."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import (
    QUICK,
    SEM_TINY,
    Command,
    broken,
    contents,
    damage,
    keys,
    name_other_pixels,
)

from unlearnable_bench.harness.weights import read_tensors, write_tensors
from unlearnable_bench.identity import key_of
from unlearnable_bench.results.autoattack import ROBUST_ACCURACIES, RobustAccuracy
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import worker
from unlearnable_bench.storage.locks import locked

CORRELATE = (
    "correlate", "--surrogate-rho-a", "0", "--noise", "none,uniform", "--rho-a", "4/255",
    "--dataset", "npz:tiny.npz", "--set", "sem.steps=2", *QUICK, "--out", "out",
)  # fmt: skip


def test_status_shows_cells_plans_and_disk(ubench: Command) -> None:
    found = ubench("status", "results")
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines[0] == "done     2 of 2 cells"
    assert [line.split() for line in lines[1:4]] == [
        [n, "0"] for n in ("running", "failed", "missing")
    ]
    assert re.fullmatch(
        r" +[0-9a-f]{8} 2 of 2 cells done, last run 20\S+ \d\d:\d\d: made in Python", lines[5]
    )
    (sem,) = (r for r in ResultsFolder(Path("results")).records() if r.attack.startswith("sem"))
    key = sem.poison["key"]
    assert lines[6].split() == ["poisons", "1"]
    assert lines[7].split(maxsplit=1) == [key[:8], f"{sem.attack}, seed 0"]
    state = json.loads(ubench("status", "results", "--json").out)
    assert state["poisons"] == [
        {"key": key, "name": f"{sem.attack}, seed 0", "cells": [sem.key], "stored": True}
    ]
    assert state["done"].keys() == {*keys().values()}
    assert sum(state["disk"].values()) == sum(
        path.stat().st_size for path in Path("results").rglob("*") if path.is_file()
    )


def test_status_names_failed_cells_and_the_command_that_retries_them(failing: Command) -> None:
    out = failing("status", "out").out
    assert "done     1 of 2 cells" in out
    assert "sem[steps=2], small-cnn, rho_a 0, seed 0: ZeroDivisionError: two lines" in out
    (again,) = re.findall(r"^ *next +(ubench run .*) --retry-failed$", out, re.MULTILINE)
    assert again == " ".join(["ubench", *map(str, SEM_TINY)])
    (key,) = json.loads(failing("status", "out", "--json").out)["failed"]
    shown = failing("show", "out", key["key"][:12]).out
    assert "Traceback (most recent call last):" in shown
    assert "in broken" in shown


def test_status_offers_a_traceback_only_where_there_is_one(
    failing: Command, workplace: Path
) -> None:
    offer = "next     ubench show out "
    assert offer in failing("status", "out").out
    (key,) = json.loads(failing("status", "out", "--json").out)["failed"]
    folder = ResultsFolder(workplace / "out")
    found = folder.failures()[key["key"]]
    folder.write_failure(key["key"], found["labels"], "process 1 was killed", "")
    assert offer not in failing("status", "out").out


def test_status_counts_measurements_of_robustness(ubench: Command) -> None:
    assert ubench(*CORRELATE).code == 0
    state = json.loads(ubench("status", "out", "--json").out)
    (key, name), _ = state["measured"].items()
    assert name.endswith("robustness at 4/255, seed 0")
    whole = ubench("status", "out").out
    cells = len(state["done"])
    assert whole.startswith(f"done     {cells + 2} of {cells + 2} cells and measurements\n")
    assert f"{cells} of {cells} cells, 2 of 2 measurements done" in whole
    path = Path("out/robustness", f"{key}.json")
    content = path.read_bytes()
    path.unlink()
    lacking = ubench("status", "out").out
    assert re.search(rf"^missing +1\n +{key[:8]} +{re.escape(name)}$", lacking, re.MULTILINE)
    assert "next     ubench correlate --surrogate-rho-a 0" in lacking
    path.write_bytes(content[:-9])
    damaged = ubench("status", "out")
    assert damaged.code == 2
    assert f"{path} is damaged" in damaged.err
    assert json.loads(ubench("status", "out", "--json").out)["missing"].keys() == {key}
    plan = state["plans"][0]["key"]
    assert re.search(rf"^measurements +{key}$", ubench("show", "out", plan).out, re.MULTILINE)


def test_a_failed_measurement_has_its_name(
    ubench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "measure", broken)
    assert ubench(*CORRELATE).code == 2
    out = ubench("status", "out").out
    assert "robustness at 4/255, seed 0: ZeroDivisionError: two lines" in out
    assert "next     ubench correlate --surrogate-rho-a 0" in out  # it has no --retry-failed
    assert "--retry-failed" not in out


def test_what_to_do_next_names_the_folder_that_was_asked_about(failing: Command) -> None:
    shutil.copytree("out", "moved")
    (step,) = re.findall(r"^next +(ubench run .*)$", failing("status", "moved").out, re.MULTILINE)
    assert "--out moved " in step
    assert "out/" not in step
    assert failing(*step.split()[1:]).code == 0
    assert {*keys("moved")} == {"clean", "sem[steps=2]"}
    assert {*keys("out")} == {"clean"}


def test_a_poison_that_is_not_stored_is_shown_as_its_record_has_it(ubench: Command) -> None:
    (poison,) = Path("results/poisons").iterdir()
    stored = json.loads(ubench("show", "results", poison.stem, "--json").out)
    poison.unlink()
    shown = json.loads(ubench("show", "results", poison.stem[:9], "--json").out)
    assert shown["sha256"] == stored["sha256"]


def test_verify_names_a_damaged_file_once(ubench: Command) -> None:
    path = Path("results/cells", f"{keys()['clean']}.json")
    damage(path)
    assert ubench("verify", "results").err.count(str(path)) == 1


def test_a_folder_with_a_damaged_marker_is_named(
    ubench: Command, refused: Callable[..., str]
) -> None:
    marker = Path("results/ubench.json")
    newer = marker.read_text().replace("1}", "2}")
    marker.write_text("junk")
    assert "not the marker of a results folder" in refused("status", "results")
    marker.write_text(newer)
    assert "from another version of ubench" in refused("status", "results")
    marker.unlink()  # as the first message says
    assert "2 of 2 cells" in ubench("status", "results").out


def test_only_failed_cells_are_tried_again(failing: Command) -> None:
    Path("out/cells", f"{keys('out')['clean']}.json").unlink()
    assert "2 cells" not in failing(*SEM_TINY, "--retry-failed", "--dry-run").out
    done = failing(*SEM_TINY, "--retry-failed")
    assert done.code == 0
    assert "1 cell computed, 0 reused" in done.out
    state = json.loads(failing("status", "out", "--json").out)
    assert [*state["done"].values()] == ["sem[steps=2], small-cnn, rho_a 0, seed 0"]
    assert [*state["missing"].values()] == ["clean, small-cnn, rho_a 0, seed 0"]
    assert state["failed"] == []
    again = failing(*SEM_TINY, "--retry-failed")
    assert again.code == 0
    assert "no cell of this plan failed in out; without --retry-failed, missing ones" in again.out


def test_running_cells_have_their_process_and_progress(ubench: Command) -> None:
    key = keys()["sem[steps=2]"]
    Path("results/cells", f"{key}.json").unlink()
    with locked(Path("results/work", f"{key}.lock"), wait=False, what="a cell"):
        out = ubench("status", "results").out
        (running,) = json.loads(ubench("status", "results", "--json").out)["running"]
    assert "running  1" in out
    assert re.search(
        r"sem\[steps=2\], small-cnn, rho_a 0, seed 0: process \d+ on \S+, for \d+ s", out
    )
    assert (running["key"], running["is_cell"]) == (key, True)
    assert "done     1 of 2 cells" in out
    assert {"process", "host", "user"} <= running["where"].keys()
    assert json.loads(ubench("status", "results", "--json").out)["missing"].keys() == {key}


def test_show_prints_a_record_and_the_command_that_makes_it(ubench: Command) -> None:
    key = keys()["sem[steps=2]"]
    (record,) = [one for one in ResultsFolder(Path("results")).records() if one.key == key]
    out = ubench("show", "results", key[:10]).out
    assert re.search(rf"^key +{key}$", out, re.MULTILINE)
    assert f"{record.test_accuracy:.2f} % (peak" in out
    assert "--methods sem" in out
    assert "--set sem.steps=2" in out
    assert json.loads(ubench("show", "results", key, "--json").out)["seconds"] == record.seconds
    poison = ubench("show", "results", record.poison["key"]).out
    assert record.poison["sha256"] in poison


def test_the_beginning_of_several_keys_and_of_none_is_refused(refused: Callable[..., str]) -> None:
    assert "is the beginning of" in refused("show", "results", "")
    assert "unknown key 'xyz'" in refused("show", "results", "xyz")
    assert "ubench run" in refused("show", "nowhere", "1")


def test_verify_names_each_damaged_file_and_changes_none(ubench: Command) -> None:
    whole = ubench("verify", "results")
    assert (whole.code, whole.err) == (0, "")
    assert "sound: 2 records, 1 poison" in whole.out
    for kind in ("cells", "poisons", "networks", "strips", "noise", "plans"):
        path = min(Path("results", kind).glob("[!.]*.[js]*"))
        before = path.read_bytes()
        damage(path)
        state = contents(Path("results"))
        found = ubench("verify", "results")
        assert found.code == 2
        assert f"{path} is damaged" in found.err
        assert contents(Path("results")) == state
        path.write_bytes(before)


def test_verify_finds_a_record_of_another_poison(ubench: Command) -> None:
    key = keys()["sem[steps=2]"]
    name_other_pixels(Path("results/cells", f"{key}.json"))
    found = ubench("verify", "results", "--json")
    assert found.code == 2
    (line,) = json.loads(found.out)["damaged"]
    assert f"has other pixels than those that record {key}" in line


def test_verify_finds_files_under_another_key(failing: Command) -> None:
    for kind in ("failures", "plans"):
        (path,) = Path("out", kind).glob("[!.]*.json")
        other = path.with_name(f"{'0' * len(path.stem)}.json")
        path.rename(other)
        found = failing("verify", "out")
        assert found.code == 2
        assert f"{other} is damaged (its key is {path.stem})" in found.err
        other.rename(path)


@pytest.mark.parametrize("name", ["-0123456789abcdef", "-12", "-0123456789abcdef-12"])
def test_networks_of_parts_and_of_epochs_are_results(ubench: Command, name: str) -> None:
    path = min(Path("results/networks").glob("[!.]*.safetensors"))
    tensors, _ = read_tensors(path, torch.device("cpu"))
    part = path.with_name(f"{path.stem}{name}.safetensors")
    write_tensors(part, tensors)
    before = ubench("verify", "results")
    assert (before.code, "not read" in before.out) == (0, False)
    damage(part)
    assert f"{part} is damaged" in ubench("verify", "results").err


def test_verify_names_what_no_run_writes(ubench: Command) -> None:
    Path("results/notes.txt").write_text("mine")
    Path("results/cells/copy of a.json").write_text("{}")
    found = json.loads(ubench("verify", "results", "--json").out)
    assert found["foreign"] == ["results/notes.txt", "results/cells/copy of a.json"]


def test_rm_lists_first_and_then_removes_what_only_these_cells_need(ubench: Command) -> None:
    state = contents(Path("results"))
    listed = ubench("rm", "results", "--attack", "sem")
    assert contents(Path("results")) == state
    assert "would remove 1 record, 1 poison" in listed.out
    assert listed.out.endswith("nothing is removed yet; add --yes\n")
    named = {line for line in listed.out.splitlines() if line.startswith("results/")}
    assert ubench("rm", "results", "--attack", "sem", "--yes").code == 0
    gone = {f"results/{name}" for name in state.keys() - contents(Path("results")).keys()}
    assert gone == named
    assert [*keys()] == ["clean"]
    assert ubench("verify", "results").code == 0


def test_rm_keeps_a_poison_that_another_cell_was_trained_on(ubench: Command) -> None:
    assert ubench(*SEM_TINY, "--rho-a", "0,4/255", "--no-clean").code == 0
    assert ubench("rm", "out", "--rho-a", "4/255", "--yes").code == 0
    assert len(list(Path("out/poisons").glob("*.safetensors"))) == 1
    assert ubench("rm", "out", "--methods", "sem", "--yes").code == 0
    assert list(Path("out/poisons").glob("*.safetensors")) == []


def test_rm_leaves_alone_what_is_being_computed_and_needs_a_choice(
    ubench: Command, refused: Callable[..., str]
) -> None:
    key = keys()["clean"]
    with locked(Path("results/work", f"{key}.lock"), wait=False):
        found = ubench("rm", "results", "--keys", key[:9], "--yes")
    assert f"left alone, because they are being computed: {key}" in found.out
    assert key in keys().values()
    assert "say which cells" in refused("rm", "results")
    assert "no cell has the key" in refused("rm", "results", "--keys", "nope")
    assert "unknown attack" in refused("rm", "results", "--attack", "nope")


def measured_by_autoattack(cell: str) -> str:
    """Write a measurement of a kept learner as if it had been made; return its key."""
    identity = {"cell": cell}
    found = RobustAccuracy(
        format=1, key=key_of(identity), identity=identity, cell=cell, rho="8/255", images=10,
        clean_accuracy=90.0, robust_accuracy=20.0, after={}, warnings=[], seconds=2.0,
        environment={}, created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    ROBUST_ACCURACIES.write(Path("out"), found)
    return found.key


def test_kept_learners_and_their_measurements_are_results_too(ubench: Command) -> None:
    assert ubench(*SEM_TINY, "--keep-learners").code == 0
    learners = {cell: f"learners/{cell}.safetensors" for cell in keys("out").values()}
    kept, removed = keys("out")["clean"], keys("out")["sem[steps=2]"]
    measured = {cell: f"autoattack/{measured_by_autoattack(cell)}.json" for cell in learners}
    Path("out/work", f"{removed}-preparation.safetensors").touch()
    assert "2 learners, 2 AutoAttack measurements" in ubench("verify", "out").out
    assert "robust_accuracy" in ubench("show", "out", Path(measured[kept]).stem).out
    assert ubench("archive", "out", "a.tar").code == 0
    assert ubench("merge", "copy", "a.tar").code == 0
    for name in (*learners.values(), *measured.values()):
        assert Path("copy", name).read_bytes() == Path("out", name).read_bytes()
    assert ubench("rm", "out", "--keys", removed, "--yes").code == 0
    for path in (learners[removed], measured[removed], f"work/{removed}-preparation.safetensors"):
        assert not Path("out", path).exists()
    for path in (learners[kept], measured[kept]):
        assert Path("out", path).exists()
    Path("out", learners[kept]).write_bytes(b"not weights")
    damaged = ubench("verify", "out")
    assert damaged.code == 2
    assert "remove it; only training its cell again gives another" in damaged.err


def test_rm_removes_failures(failing: Command) -> None:
    assert failing("rm", "out", "--failed", "--yes").code == 0
    state = json.loads(failing("status", "out", "--json").out)
    assert (len(state["failed"]), len(state["missing"]), len(state["done"])) == (0, 1, 1)


def test_rm_removes_failures_of_measurements(
    ubench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(worker, "measure", broken)
        assert ubench(*CORRELATE).code == 2
    failures = {path.stem: path for path in Path("out/failures").iterdir()}
    assert len(failures) == 2
    listed = ubench("rm", "out", "--failed").out
    assert all(str(path) in listed for path in failures.values())
    assert "would remove 2 failures" in listed
    first, second = failures
    with locked(Path("out/work", f"{first}.lock"), wait=False):
        left = ubench("rm", "out", "--failed", "--yes").out
    assert f"left alone, because they are being computed: {first}" in left
    assert (failures[first].exists(), failures[second].exists()) == (True, False)
    # The labels of a cell are not those of a measurement.
    assert "removed nothing" in ubench("rm", "out", "--failed", "--attack", "sem", "--yes").out
    assert ubench("rm", "out", "--failed", "--keys", first[:9], "--yes").out == (
        "removed 1 failure\n"
    )
    state = json.loads(ubench("status", "out", "--json").out)
    assert (state["failed"], state["missing"].keys()) == ([], failures.keys())
    assert ubench("rm", "out", "--failed", "--yes").out == "removed nothing\n"


def test_rm_keeps_a_measurement_whose_failure_was_left_behind(ubench: Command) -> None:
    """As earlier versions did when they merged a folder in which it had failed."""
    assert ubench(*CORRELATE).code == 0
    key = min(Path("out/robustness").iterdir()).stem
    ResultsFolder(Path("out")).write_failure(key, {"measurement": "robustness"}, "why", "trace")
    before = contents(Path("out"))
    assert "removed nothing" in ubench("rm", "out", "--failed", "--yes").out
    assert contents(Path("out")) == before
