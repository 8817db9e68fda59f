"""Commands about results folders: what they print, and what they leave alone."""

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Command, contents, name_other_pixels, run_tiny
from msgspec.structs import replace

from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.curation import reproduction, transfer
from unlearnable_bench.identity import key_of
from unlearnable_bench.results.autoattack import ROBUST_ACCURACIES, RobustAccuracy
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS, Robustness
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.locks import locked
from unlearnable_bench.storage.seal import sealed_json, unsealed_json

SEM_TINY = run_tiny("--methods", "sem", "--set", "sem.steps=2")


def keys(folder: str = "results") -> dict[str, str]:
    """Return the key of each finished cell by the name of its attack."""
    return {record.attack: record.key for record in ResultsFolder(Path(folder)).records()}


def broken(*_: object) -> None:
    raise ZeroDivisionError("two\nlines")


@pytest.fixture
def failing(ubench: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A folder `out` in which `clean` is finished and `sem` has failed."""
    with monkeypatch.context() as patch:
        patch.setattr(SEM, "generate", broken)
        assert ubench(*SEM_TINY).code == 2
    return ubench


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


def damage(path: Path, place: int = -9) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


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


def results(folder: str) -> dict[str, bytes | None]:
    return {
        name: content
        for name, content in contents(Path(folder)).items()
        if not name.startswith("work") and content is not None
    }


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.xz"])
def test_an_archive_merges_into_the_same_folder(ubench: Command, ending: str) -> None:
    assert ubench("archive", "results", f"a{ending}").code == 0
    added = ubench("merge", "copy", f"a{ending}")
    assert (added.code, added.err) == (0, "")
    assert f"a{ending}: added 1 poison, 2 records" in added.out
    assert results("copy") == results("results")
    assert ubench("merge", "copy", f"a{ending}", "results").out.count("added nothing; ") == 2


def test_an_archive_of_records_makes_the_same_table(ubench: Command) -> None:
    assert "2 records" in ubench("archive", "results", "a.tar", "--records-only").out
    assert ubench("merge", "copy", "a.tar").code == 0
    assert not Path("copy/poisons").exists()
    assert ubench("report", "copy").out == ubench("report", "results").out


def test_archives_are_never_overwritten_nor_half_written(
    ubench: Command, refused: Callable[..., str]
) -> None:
    assert "the ending of an archive is one of .tar" in refused("archive", "results", "a.zip")
    assert ubench("archive", "results", "a.tar").code == 0
    assert "exists already" in refused("archive", "results", "a.tar")
    assert "no folder" in refused("archive", "results", "no/a.tar")
    assert "ubench run" in refused("archive", "nowhere", "b.tar")


def test_damaged_files_are_neither_archived_nor_merged(ubench: Command) -> None:
    assert ubench("archive", "results", "whole.tar").code == 0
    path = Path("results/cells", f"{keys()['clean']}.json")
    damage(path)
    archived = ubench("archive", "results", "a.tar")
    assert archived.code == 2
    assert f"{path} is damaged" in archived.err
    assert "1 record," in archived.out
    merged = ubench("merge", "copy", "results")
    assert merged.code == 2
    assert [*keys("copy")] == ["sem[steps=2]"]
    # A damaged one of the target gives way to a sound one.
    mended = ubench("merge", "results", "whole.tar")
    assert mended.code == 2
    assert "moved to results/cells/damaged" in mended.err
    assert {*keys()} == {"clean", "sem[steps=2]"}


def test_a_result_that_differs_is_named_and_kept(ubench: Command) -> None:
    shutil.copytree("results", "other")
    path = Path("other/cells", f"{keys()['clean']}.json")
    fields = json.loads(unsealed_json(path.read_bytes())[0])
    changed = fields["test_accuracy"] / 2
    fields |= {"test_accuracy": changed, "epoch_accuracy": [changed], "peak_accuracy": changed}
    path.write_text(sealed_json(fields))
    before = results("results")
    found = ubench("merge", "results", "other")
    assert found.code == 2
    assert f"the other {changed:.2f} %" in found.err
    assert results("results") == before


def test_other_pixels_and_other_measurements_are_named_too(ubench: Command) -> None:
    measured = {"surrogate_loss": 1.0, "surrogate_accuracy": 50.0, "noise_loss": 1.0}
    (sem,) = (r for r in ResultsFolder(Path("results")).records() if r.attack.startswith("sem"))
    identity = {"poison": sem.identity["poison"], "rho_a": "4/255"}
    one = Robustness(
        format=1, key=key_of(identity), identity=identity, environment={}, created="2026",
        poison=sem.poison["key"], rho_a="4/255", noise_accuracy=50.0, seconds={}, **measured,
    )  # fmt: skip
    MEASURED_ROBUSTNESS.write(Path("results"), one)
    shutil.copytree("results", "other")
    path = Path("other/robustness", f"{one.key}.json")
    path.unlink()
    MEASURED_ROBUSTNESS.write(Path("other"), replace(one, created="2027", seconds={"work": 1.0}))
    assert ubench("merge", "results", "other").code == 0
    path.unlink()
    MEASURED_ROBUSTNESS.write(Path("other"), replace(one, surrogate_loss=9.0))
    name_other_pixels(Path("other/cells", f"{sem.key}.json"))
    found = ubench("merge", "results", "other")
    assert found.code == 2
    assert (
        f"{sem.key}.json was trained on other pixels than the other; it is unchanged" in found.err
    )
    assert f"{one.key}.json has other figures than that of other; it is unchanged" in found.err


def test_a_cut_off_archive_and_other_files_are_refused(
    ubench: Command, refused: Callable[..., str], workplace: Path
) -> None:
    assert ubench("archive", "results", "a.tar").code == 0
    whole = Path("a.tar").read_bytes()
    Path("cut.tar").write_bytes(whole[: len(whole) // 2])
    Path("text.tar").write_text("mine")
    Path("into").mkdir()
    ResultsFolder(Path("into"), create=True)
    for name in ("cut.tar", "text.tar", "nowhere.tar"):
        assert name in refused("merge", "into", name)
        assert name in refused("merge", "fresh", name)
        assert not Path("fresh").exists()
    assert "is the folder itself" in refused("merge", "results", workplace / "results")


def test_an_archive_cannot_write_outside_the_folder(ubench: Command) -> None:
    key = "0" * 32
    names = ["../evil.json", "/tmp/evil.json", f"cells/../../{key}.json", f"cells/{key}.json.tmp"]
    with tarfile.open("a.tar", "w") as tar:
        transfer._add(tar, "ubench.json", Path("results/ubench.json").read_bytes())
        for name in names:
            entry = tarfile.TarInfo(name)
            tar.addfile(entry, io.BytesIO(b""))
        link = tarfile.TarInfo(f"cells/{key}.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = contents(Path.cwd().parent)
    found = ubench("merge", "into", "a.tar")
    assert found.code == 2
    assert found.err.count("is no result; it is left out") == len(names) + 1
    after = contents(Path.cwd().parent)
    assert {name for name in after.keys() - before.keys() if "evil" in name or key in name} == set()


def test_a_manifest_shows_what_an_archive_has_lost(ubench: Command) -> None:
    assert ubench("archive", "results", "a.tar").code == 0
    lost = f"cells/{keys()['clean']}.json"
    with tarfile.open("a.tar") as whole, tarfile.open("b.tar", "w") as part:
        for entry in whole:
            if entry.name != lost:
                part.addfile(entry, whole.extractfile(entry))
    found = ubench("merge", "into", "b.tar")
    assert found.code == 2
    assert f"{lost} is missing in b.tar" in found.err
    assert [*keys("into")] == ["sem[steps=2]"]


def test_a_cell_is_reproduced_bit_for_bit(ubench: Command) -> None:
    data = ("--dataset", "npz:tiny.npz", "--device", "cpu")
    found = ubench("reproduce", "results", keys()["sem[steps=2]"][:9], *data)
    assert (found.code, found.out.splitlines()[-1]) == (0, "verdict   reproduced, bit for bit")
    assert "the same kind of machine" in found.out


def test_a_folder_that_has_the_cell_reproduces_nothing(ubench: Command) -> None:
    key, data = keys()["clean"], ("--dataset", "npz:tiny.npz", "--device", "cpu")
    found = ubench("reproduce", "results", key, *data, "--out", "results")
    assert found.code == 2
    assert f"results has the cell {key} already, so nothing would be computed again" in found.err
    assert ubench("reproduce", "results", key, *data, "--out", "again").code == 0


def change(key: str, **changed: Any) -> None:
    path = Path("results/cells", f"{key}.json")
    fields = json.loads(unsealed_json(path.read_bytes())[0])
    device = changed.pop("device", None)
    if device:
        fields["environment"]["device"] = device
    path.write_text(sealed_json(fields | changed))


@pytest.mark.parametrize(
    ("device", "points", "code", "verdict"),
    [
        (None, 0.5, 2, "not reproduced: results on the same kind of CPU must be identical"),
        ("NVIDIA T", 0.5, 0, "reproduced within 1 points"),
        ("NVIDIA T", 2, 2, "not reproduced: beyond 1 points"),
    ],
)
def test_another_number_is_reproduced_only_on_another_machine_and_within_the_tolerance(
    ubench: Command, device: str | None, points: float, code: int, verdict: str
) -> None:
    key = keys()["clean"]
    (record,) = [one for one in ResultsFolder(Path("results")).records() if one.key == key]
    accuracy = abs(record.test_accuracy - points)
    change(key, device=device, test_accuracy=accuracy, epoch_accuracy=[accuracy])
    data = ("--dataset", "npz:tiny.npz", "--device", "cpu", "--tolerance", "1")
    found = ubench("reproduce", "results", key, *data)
    assert (found.code, found.out.splitlines()[-1]) == (code, f"verdict   {verdict}")
    assert ("another kind of machine" in found.out) == (device is not None)


@pytest.mark.usefixtures("ubench")
@pytest.mark.parametrize(("device", "exact"), [("CPU (x86_64)", True), ("NVIDIA H200", False)])
def test_a_gpu_need_not_repeat_the_last_bits(device: str, exact: bool) -> None:
    (record,) = [one for one in ResultsFolder(Path("results")).records() if one.attack == "clean"]
    place = {"environment": record.environment | {"device": device}}
    poison = record.poison | place
    record = replace(record, **place, poison=poison)
    again = replace(record, poison=poison | {"sha256": "other"}, test_accuracy=52.0)
    near = reproduction.compare(replace(record, test_accuracy=50.0), again, 5)
    assert (near.same_kind, near.exact, near.identical) == (True, exact, False)
    assert near.is_reproduced is not exact
    assert not reproduction.compare(replace(record, test_accuracy=40.0), again, 5).is_reproduced


def test_a_cell_of_other_data_is_not_reproduced(refused: Callable[..., str]) -> None:
    key = keys()["clean"]
    assert "give --dataset npz:PATH: PATH: the file or folder of npz:tiny," in refused(
        "reproduce", "results", key
    )
    message = refused("reproduce", "results", key, "--dataset", "shapes", "--device", "cpu")
    assert "this version makes another cell of" in message
    assert "in the record" in message
