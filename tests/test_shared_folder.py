"""A results folder that several processes, threads and users share, and that moves meanwhile."""

import errno
import fcntl
import json
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import accuracies, four_cells, small_data
from test_store import RECORD, poison_with_facts

from unlearnable_bench import UserError, load_records, make_plan, run
from unlearnable_bench.datasets.npz import write_npz
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.results.upkeep import clear
from unlearnable_bench.storage import locks as lock_files
from unlearnable_bench.storage.damage import set_aside
from unlearnable_bench.storage.files import (
    NotRegularError,
    clear_leftovers,
    read_bytes,
    scratch,
    write_text,
)
from unlearnable_bench.storage.locks import locked


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return four_cells(tmp_path)


def test_threads_of_one_process_share_a_folder(plan: Plan, tmp_path: Path) -> None:
    run(plan, tmp_path / "alone", device="cpu")
    summaries: list[Any] = []
    start = threading.Barrier(3)

    def work() -> None:
        start.wait()
        summaries.append(run(plan, tmp_path / "out", device="cpu"))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(summaries) == 3
    assert not any(summary.failures for summary in summaries)
    assert sum(summary.computed for summary in summaries) == 4
    assert accuracies(tmp_path / "out") == accuracies(tmp_path / "alone")


def test_a_folder_that_lost_its_marker_is_adopted_if_its_records_are_sound(
    plan: Plan, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(plan, out, device="cpu")
    for content in (None, b""):
        (out / "ubench.json").unlink()
        if content is not None:
            (out / "ubench.json").write_bytes(content)
        assert len(load_records(out)) == 4
        assert not (out / "ubench.json").exists() or content == b""
        assert run(plan, out, device="cpu").reused == 4
        assert json.loads((out / "ubench.json").read_text())["format"] == 1


@pytest.mark.parametrize("foreign", ["thesis.tex", "no records", "damaged records"])
def test_a_folder_of_others_is_not_adopted(plan: Plan, tmp_path: Path, foreign: str) -> None:
    out = tmp_path / "out"
    run(plan, out, device="cpu")
    (out / "ubench.json").unlink()
    for path in out.glob("cells/*.json"):
        if foreign == "no records":
            path.unlink()
        elif foreign == "damaged records":
            path.write_text("{}")
    if foreign == "thesis.tex":
        (out / foreign).write_text("mine")
    with pytest.raises(UserError, match="neither empty nor a results folder"):
        run(plan, out, device="cpu")
    with pytest.raises(UserError, match="is not a results folder"):
        load_records(out)


def test_a_link_in_place_of_a_lock_empties_nothing(plan: Plan, tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    precious.write_text("precious")
    (out / "work").mkdir(parents=True)
    write_text(out / "ubench.json", '{"kind": "unlearnable-bench results", "format": 1}\n')
    symbolic, hard, pipe, _ = (out / "work" / f"{cell.key}.lock" for cell in plan.cells)
    symbolic.symlink_to(precious)
    hard.hardlink_to(precious)
    os.mkfifo(pipe)
    summary = run(plan, out, device="cpu")
    assert precious.read_text() == "precious"
    reasons = [failure.reason for failure in summary.failures]
    assert reasons == [
        f"{symbolic} is a symbolic link in place of a lock; remove it",
        f"{pipe} is not a regular file in place of a lock; remove it",
    ]
    assert summary.computed == 2
    symbolic.unlink()
    pipe.unlink()
    assert run(plan, out, device="cpu").computed == 2


def test_a_lock_that_may_not_be_opened_leaves_out_its_cell_only(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = f"{plan.cells[1].key}.lock"
    opened = os.open

    def denied(path: Any, *arguments: Any, **more: Any) -> int:
        # What the system answers to anyone but a superuser, who may run this test.
        if str(path).endswith(theirs):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **more)

    monkeypatch.setattr(os, "open", denied)
    summary = run(plan, tmp_path / "out", device="cpu")
    (failure,) = summary.failures
    assert failure.cell == plan.cells[1]
    assert f"{theirs} cannot be locked (Permission denied)" in failure.reason
    assert summary.computed == 3


def test_a_lock_that_may_only_be_read_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.lock"
    path.write_text("")
    opened = os.open

    def readable(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, *arguments, **more)

    monkeypatch.setattr(os, "open", readable)
    with locked(path, wait=False) as first, locked(path, wait=False) as second:
        assert (first, second) == (True, False)


@pytest.mark.parametrize("kind", ["variable", "file system"])
def test_without_flock_a_soft_lock_is_used_and_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    def missing(_file: object, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if kind == "variable":
        monkeypatch.setenv("UBENCH_LOCKS", "soft")
    else:
        monkeypatch.setattr(fcntl, "flock", missing)
    folder = ResultsFolder(tmp_path / "out", create=True)
    with folder.claim("a", wait=False) as first, folder.claim("a", wait=False) as second:
        assert (first, second) == (True, False)
        with folder.claim("b", wait=False) as other:
            assert other
    with folder.claim("a", wait=False) as third:
        assert third
    assert not [*folder.path.glob("work/*.soft")]
    (line,) = [r.message for r in caplog.records if "soft locks" in r.message]
    assert f"{folder.path / 'work'} has soft locks (filelock), not flock" in line


def test_cells_are_computed_once_with_soft_locks(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UBENCH_LOCKS", "soft")
    assert run(plan, tmp_path / "out", device="cpu").computed == 4
    assert run(plan, tmp_path / "out", device="cpu").reused == 4


def test_who_waits_says_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(lock_files, "_PAUSE", 0.01)
    path = tmp_path / "a.lock"
    ticks = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 30:
            raise KeyboardInterrupt

    with (
        locked(path, wait=True),
        pytest.raises(KeyboardInterrupt),
        locked(path, wait=True, tick=tick, what="sem, seed 0"),
    ):
        pass
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"ubench: waiting for sem, seed 0, which process {os.getpid()} of ")
    assert line.count("\n") == 0


def test_leftovers_of_dead_processes_are_cleared_and_those_of_living_ones_not(
    tmp_path: Path,
) -> None:
    old = time.time() - 3600
    with scratch(tmp_path, "alive") as alive:
        dead, young = (tmp_path / f".{n}.json.0123456789abcdef.tmp" for n in ("dead", "young"))
        theirs = [tmp_path / name for name in ("mine.tmp", ".mine.tmp", ".mine.0123456789.tmp")]
        for folder in (dead, young, *theirs):
            folder.mkdir()
            (folder / "half").write_text("half")
        for folder in (alive, dead, *theirs):
            os.utime(folder, (old, old))
        clear_leftovers(tmp_path)
        assert alive.exists()
        assert not dead.exists()
        assert young.exists()
        assert all((folder / "half").exists() for folder in theirs)
    assert not alive.exists()


def test_state_of_finished_work_is_cleared_by_the_next_run(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "out", create=True)
    folder.write_record(RECORD)
    folder.write_poison("a", *poison_with_facts())
    states = {
        name: folder.path / name
        for name in (
            f"work/{RECORD.key}.safetensors",
            "work/a.safetensors",
            "work/unfinished.safetensors",
            "networks/n.partial",
            "networks/n-0123abcd.partial",
            "networks/m.partial",
        )
    }
    for path in (*states.values(), folder.path / "networks" / "n.safetensors"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("state")
    with folder.claim("a", wait=False):
        ResultsFolder(folder.path, create=True)
    left = {name for name, path in states.items() if path.exists()}
    assert left == {
        "work/a.safetensors",
        "work/unfinished.safetensors",
        "networks/n-0123abcd.partial",  # of epochs that were asked for later
        "networks/m.partial",
    }
    ResultsFolder(folder.path, create=True)
    assert not states["work/a.safetensors"].exists()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("kind", ["cells", "plans", "poisons", "networks", "strips", "noise"])
def test_a_pipe_in_place_of_a_file_does_not_hang(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    write_npz(small_data(), tmp_path / "d.npz")
    plan = make_plan(
        methods=["tap"],
        dataset=f"npz:{tmp_path / 'd.npz'}",
        settings={"training.epochs": "1", "tap.steps": "1", "small-cnn.width": "4"},
        clean=False,
    )
    out = tmp_path / "out"
    run(plan, out, device="cpu")
    (path,) = (one for one in (out / kind).iterdir() if one.suffix in (".json", ".safetensors"))
    pipe(path)
    if kind not in ("cells", "plans"):
        for record in out.glob("cells/*.json"):
            record.unlink()
    if kind == "networks":
        for poison in out.glob("poisons/*.safetensors"):
            poison.unlink()
    summary = run(plan, out, device="cpu")
    assert not summary.failures
    assert summary.computed == (kind != "plans")
    assert f"{path} is damaged (it is not a regular file)" in caplog.text
    assert stat.S_ISREG(path.stat().st_mode)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link") == b"x" * 100
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_bytes(tmp_path / "pipe")
    with pytest.raises(NotRegularError):
        read_bytes(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotRegularError):
        read_bytes(tmp_path / "loop")


def test_what_is_set_aside_replaces_nothing(tmp_path: Path) -> None:
    for content in ("one", "two", "three"):
        (tmp_path / "a.json").write_text(content)
        set_aside(tmp_path / "a.json", "broken")
    found = {path.name: path.read_text() for path in (tmp_path / "damaged").iterdir()}
    assert found == {"a.json": "one", "a.json.1": "two", "a.json.2": "three"}


CONTENTS: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[:100],
    "changed": lambda text: text.replace('"resumed": false', '"resumed": true'),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_damaged_record_ends_no_other_cell(
    plan: Plan, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    run(plan, out, device="cpu")
    whole = accuracies(out)
    paths = sorted(out.glob("cells/*.json"))
    paths[0].write_text(CONTENTS[content](paths[0].read_text()))
    for path in paths[1:3]:
        path.unlink()
    np.testing.assert_equal(len(load_records(out)), 1)
    summary = run(plan, out, device="cpu")
    assert (summary.computed, summary.reused, summary.failures) == (3, 1, ())
    assert accuracies(out) == whole
    assert f"{paths[0]} is damaged" in caplog.text


def test_the_soft_lock_of_an_ended_process_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UBENCH_LOCKS", "soft")
    folder = ResultsFolder(tmp_path / "out", create=True)
    lock = folder.lock("0" * 32)
    script = (
        "import os, pathlib, sys; from unlearnable_bench.storage.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), wait=False): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(lock)], check=True)
    soft = lock.with_name(f"{lock.name}.soft")
    assert soft.exists()
    with folder.claim("1" * 32, wait=False):  # of a process that lives
        clear(folder.path)
        assert [path.name for path in soft.parent.glob("*.soft")] == [f"{'1' * 32}.lock.soft"]


def test_a_soft_lock_whose_process_was_killed_before_its_record_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UBENCH_LOCKS", "soft")
    marker = tmp_path / "a.lock.soft"

    def taken() -> bool:
        with locked(tmp_path / "a.lock", wait=False) as held:
            return held

    marker.touch()
    assert [taken() for _ in range(3)] == [False] * 3  # it may be written just now
    assert marker.read_bytes() == b""
    os.utime(marker, (time.time() - 60,) * 2)
    assert taken()
    assert not marker.exists()
