"""Cells that share a device in threads: the same results, failures apart, a clean end."""

import os
import signal
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from helpers import random_images

from unlearnable_bench import api
from unlearnable_bench.attacks.sc import SC
from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness
from unlearnable_bench.harness.progress import Silent
from unlearnable_bench.images import ImageSet
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import executor, worker

SHORT = {
    "training.epochs": "2",
    "em.rounds": "2",
    "sem.steps": "3",
    "sem.noise_steps": "2",
    "sem.attack_steps": "2",
    "small-cnn.width": "4",
}


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "tiny.npz"
    images, test = random_images(60, 16, 4), random_images(30, 16, 4, seed=1)
    names = np.array(["ant", "bee", "cat", "dog"])
    arrays = {"x_train": images.images, "y_train": images.labels, "class_names": names}
    np.savez(path, x_test=test.images, y_test=test.labels, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


def plan(data: str, **settings: str) -> Plan:
    radii = [Radius("0"), Radius("4/255")]
    asked: dict[str, Any] = {"methods": ["em", "sem"], "rho_a": radii, "seeds": [0, 1]}
    return make_plan(dataset=data, settings=SHORT | settings, **asked)


def clean_cells(data: str, seeds: list[int]) -> Plan:
    settings = {"training.epochs": "1", "small-cnn.width": "4"}
    return make_plan(dataset=data, settings=settings, methods=["clean"], seeds=seeds)


def test_packed_cells_have_the_results_of_cells_alone(data: str, tmp_path: Path) -> None:
    together: dict[bool, list[int]] = {True: [], False: []}

    class Counting(Silent):
        at_work = 0

        def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
            self.at_work += 1
            together["training" in label].append(self.at_work)
            yield from steps
            self.at_work -= 1

    alone = api.run(plan(data), tmp_path / "1", device="cpu")
    packed = api.run(plan(data), tmp_path / "3", device="cpu", pack=3, progress=Counting())
    assert (alone.computed, packed.computed) == (12, 12)
    assert (max(together[True]), max(together[False])) == (3, 1)  # noise is timed alone
    frames = [api.load_records(tmp_path / n).set_index("key").sort_index() for n in ("1", "3")]
    columns = ["attack", "seed", "rho_a", "test_accuracy", "peak_accuracy", "train_accuracy"]
    assert frames[0][columns].equals(frames[1][columns])
    poisons = [{p.name for p in (tmp_path / n / "poisons").iterdir()} for n in ("1", "3")]
    assert poisons[0] == poisons[1]


def test_what_is_fastest_is_chosen_and_recorded(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meeting(Silent):
        """As many cells as may train together wait for each other."""

        def __init__(self, cells: int) -> None:
            self._barrier = threading.Barrier(cells)

        def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
            self._barrier.wait(60)
            yield from steps

    def packed(seeds: list[int], cells: int, pack: int | None = None) -> list[int]:
        run = clean_cells(data, seeds)
        api.run(run, tmp_path / "out", device="cpu", pack=pack, progress=Meeting(cells))
        records = [ResultsFolder(tmp_path / "out").record(cell.key) for cell in run.cells]
        return [record.packed for record in records if record]

    assert packed([0], 1) == [1]
    monkeypatch.setitem(executor._FASTEST_PACK, "cpu", 2)
    assert packed([1, 2], 2) == [2, 2]
    assert packed([2, 3], 1) == [2, 1]  # one is missing, and runs alone
    assert packed([5, 6], 1, pack=1) == [1, 1]


def test_no_cell_depends_on_those_around_it(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Split batches change the last bits, and their gain depends on what else runs."""
    found: list[bool] = []
    train = worker.train

    def spy(*args: Any) -> Any:
        found.append(args[5].split_batches)
        return train(*args)

    monkeypatch.setattr(worker, "train", spy)
    for seeds, pack in (([0], None), ([1, 2], 2)):
        api.run(clean_cells(data, seeds), tmp_path / "out", device="cpu", pack=pack)
    assert found == [False] * 3


def test_a_cell_that_fails_does_not_cost_the_others(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unlearnable_bench.attacks.em import EM  # noqa: PLC0415

    attempts: list[int] = []

    def fail(*_args: object) -> None:
        attempts.append(1)
        time.sleep(0.05)
        raise UserError("no noise today")

    monkeypatch.setattr(EM, "generate", fail)
    summary = api.run(plan(data), tmp_path / "out", device="cpu", pack=3)
    assert (summary.computed, len(summary.failures)) == (8, 4)
    assert {f.reason for f in summary.failures} == {"no noise today"}
    assert len(attempts) == 2  # once for each seed


@pytest.mark.parametrize("pack", [1, 2])
def test_a_noise_that_fails_leaves_nothing_in_memory(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: int
) -> None:
    from unlearnable_bench.attacks.em import EM  # noqa: PLC0415

    held: list[weakref.ref[Any]] = []
    alive: list[bool] = []

    def fail(_em: EM, images: ImageSet, harness: Harness) -> None:
        model = harness.network(images)
        held.append(weakref.ref(model))
        raise torch.OutOfMemoryError

    def spy(*args: Any) -> Any:
        alive.extend(ref() is not None for ref in held)
        return train(*args)

    train = worker.train
    monkeypatch.setattr(EM, "generate", fail)
    monkeypatch.setattr(worker, "train", spy)
    asked: dict[str, Any] = {"methods": ["em", "sem"], "settings": SHORT, "clean": False}
    summary = api.run(make_plan(dataset=data, **asked), tmp_path / "out", device="cpu", pack=pack)
    assert [f.reason.split(";")[0] for f in summary.failures] == ["GPU out of memory"]
    assert alive == [False]


def test_cells_are_reported_one_at_a_time(data: str, tmp_path: Path) -> None:
    inside = threading.Lock()

    def report(*_args: object) -> None:
        assert inside.acquire(blocking=False)
        time.sleep(0.02)
        inside.release()

    summary = api.run(plan(data), tmp_path / "out", device="cpu", pack=3, on_cell=report)
    assert summary.failures == ()


def test_an_interruption_ends_every_thread_and_loses_nothing(data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = ("training.epochs=20000", "small-cnn.width=4")
    process = processes.start(
        *("run", "--methods", "random", "--dataset", data, "--preset", "smoke", "--device", "cpu"),
        *("--seeds", "0,1", "--pack", "2", "--out", str(out)),
        *(part for setting in settings for part in ("--set", setting)),
        output=tmp_path / "log",
    )
    deadline = time.time() + 60
    while len(list((out / "work").glob("*.lock"))) < 2 and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)
    assert processes.finish(process, seconds=30) == [130]
    assert "run the same command again" in processes.printed(tmp_path / "log")[1]


def test_an_interruption_while_threads_start_ends_those_that_run(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(ThreadPoolExecutor):
        def submit(self, *work: Any) -> Any:  # type: ignore[override]
            super().submit(*work)
            time.sleep(1)  # the cell trains meanwhile
            raise KeyboardInterrupt

    monkeypatch.setattr(executor, "ThreadPoolExecutor", Interrupted)
    settings = {"training.epochs": "20000", "small-cnn.width": "4"}
    asked = make_plan(dataset=data, settings=settings, methods=["clean"], seeds=[0, 1])
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        api.run(asked, tmp_path / "out", device="cpu", pack=2)
    assert time.monotonic() - started < 40


def test_noise_too_fast_to_be_stored_has_the_time_that_it_took_alone(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    generate = SC.generate

    def slower_beside_others(attack: SC, images: ImageSet, harness: Harness) -> Any:
        calls.append(threading.current_thread().name)
        time.sleep(0.3 * len(calls))
        return generate(attack, images, harness)

    monkeypatch.setattr(SC, "generate", slower_beside_others)
    settings = {"training.epochs": "1", "small-cnn.width": "4"}
    asked = make_plan(
        dataset=data, settings=settings, methods=["sc"], seeds=[0, 1], noise_seeds=[0]
    )
    api.run(asked, tmp_path / "out", device="cpu", pack=2)
    records = api.load_records(tmp_path / "out")
    made = records[records["attack"] == "sc"]["generation_seconds"]
    assert calls[0] == "MainThread"
    assert len(calls) > 2
    assert made.nunique() == 1
    assert 0.3 <= made.iloc[0] < 0.6
