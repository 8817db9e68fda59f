"""A results folder that disappears while a run works on it, for good or for a while."""

import signal
import threading
from pathlib import Path

import pytest
from helpers import accuracies, four_cells

from unlearnable_bench import UserError, run
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.results import presence
from unlearnable_bench.results.presence import FolderGoneError
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.locks import locked


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return four_cells(tmp_path)


@pytest.mark.parametrize("pack", [1, 2])
def test_a_run_stops_if_its_folder_is_moved_and_resumes_there(
    plan: Plan, tmp_path: Path, pack: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UBENCH_FOLDER_WAIT", "0.5")
    out, moved = tmp_path / "out", tmp_path / "moved"
    made: list[object] = []

    def move(item: object, _result: object) -> None:
        made.append(item)
        if len(made) == 1:
            out.rename(moved)

    with pytest.raises(FolderGoneError, match="out was moved or removed while it was in use"):
        run(plan, out, device="cpu", on_cell=move, pack=pack)
    assert not out.exists()
    done = len([*moved.glob("cells/*.json")])
    assert 1 <= done < 4
    assert run(plan, moved, device="cpu").reused == done


@pytest.mark.parametrize("pack", [1, 2])
def test_a_run_waits_for_a_folder_that_disappears_for_a_while(
    plan: Plan, tmp_path: Path, pack: int, caplog: pytest.LogCaptureFixture
) -> None:
    out, moved = tmp_path / "out", tmp_path / "moved"
    back = threading.Timer(1, lambda: moved.rename(out))
    made: list[object] = []

    def move(item: object, _result: object) -> None:
        made.append(item)
        if len(made) == 1:
            out.rename(moved)
            back.start()

    summary = run(plan, out, device="cpu", on_cell=move, pack=pack)
    assert (summary.computed, summary.failures) == (4, ())
    assert len(made) == 4
    run(plan, tmp_path / "alone", device="cpu")
    assert accuracies(out) == accuracies(tmp_path / "alone")
    lines = [record.message for record in caplog.records]
    gone = f"ubench: the results folder {out} has disappeared; waiting up to 300 s for it"
    assert lines.count(gone) == 1
    assert lines.index(f"ubench: the results folder {out} is back") > lines.index(gone)


def test_a_signal_ends_the_wait_for_a_folder(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_limit", lambda: 30.0)
    out = tmp_path / "out"

    def move(_item: object, _result: object) -> None:
        out.rename(tmp_path / "moved")
        threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()

    with pytest.raises(KeyboardInterrupt):
        run(plan, out, device="cpu", on_cell=move)
    assert len([*tmp_path.glob("moved/cells/*.json")]) == 1


def test_the_wait_for_a_folder_is_a_number_of_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UBENCH_FOLDER_WAIT", "long")
    with pytest.raises(UserError, match="UBENCH_FOLDER_WAIT=long: give the seconds to wait"):
        presence.wait_for(tmp_path)


def test_a_folder_that_disappears_while_it_is_read_leaves_no_row_out(
    plan: Plan, tmp_path: Path
) -> None:
    out, moved = tmp_path / "out", tmp_path / "moved"
    run(plan, out, device="cpu")
    records = ResultsFolder(out).sound_records([cell.key for cell in plan.cells])
    first = next(records)
    out.rename(moved)
    threading.Timer(0.5, lambda: moved.rename(out)).start()
    assert [first.key, *(one.key for one in records)] == [cell.key for cell in plan.cells]


def test_records_of_a_new_folder_are_not_waited_for(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "out", create=True)
    assert [*folder.sound_records(["0" * 32])] == []


@pytest.mark.parametrize("kind", ["flock", "soft"])
def test_a_lock_that_is_released_while_its_folder_is_away_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("UBENCH_LOCKS", kind)
    folder, moved = tmp_path / "work", tmp_path / "moved"
    folder.mkdir()
    with locked(folder / "a.lock", wait=False) as held:
        assert held
        folder.rename(moved)
    moved.rename(folder)
    with locked(folder / "b.lock", wait=False):
        # For other processes, too.
        assert not (folder / "a.lock.soft").exists()
    with locked(folder / "a.lock", wait=False) as held:
        assert held
