"""A run that is killed or interrupted goes on where it was, with the same result."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import processes
import pytest

from unlearnable_bench import make_plan, run
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import executor
from unlearnable_bench.storage import locks as lock_files


@pytest.fixture
def data(tmp_path: Path) -> str:
    generator = np.random.default_rng(0)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
    found: dict[str, Any] = {"class_names": np.array(list("abcd"))}
    for split, count in (("train", 120), ("test", 40)):
        labels = np.arange(count) % 4
        images = colours[labels][:, None, None] + generator.normal(0, 40, (count, 16, 16, 3))
        found |= {
            f"x_{split}": np.clip(images, 0, 255).astype(np.uint8),
            f"y_{split}": labels,
        }
    np.savez(tmp_path / "tiny.npz", **found)
    return f"npz:{tmp_path / 'tiny.npz'}"


def arguments(data: str, out: Path) -> list[str]:
    # Seconds of work, so that a signal finds it under way on a loaded machine too.
    settings = ("training.epochs=4", "sem.steps=80", "small-cnn.width=4")
    return [
        *("run", "--methods", "sem", "--rho-a", "0,2/255"),
        *("--preset", "smoke", "--device", "cpu", "--dataset", data, "--out", str(out)),
        *(part for setting in settings for part in ("--set", setting)),
    ]


def wait_for_work(out: Path, *, ended: Callable[[], bool]) -> None:
    """Wait until a process that has just started has claimed something: a newer lock file."""
    started = time.time()
    while not ended():
        locks = out.glob("work/*.lock")
        if any(lock.stat().st_mtime > started for lock in locks):
            return
        assert time.time() < started + 60
        time.sleep(0.01)


def results(out: Path) -> dict[str, tuple[object, ...]]:
    """Return what must not depend on interruptions, and check every file on the way."""
    folder = ResultsFolder(out)
    found = {}
    for record in folder.records():
        found[record.key] = (
            record.attack,
            record.epoch_accuracy,
            record.train_accuracy,
            record.poison["sha256"],
        )
    for path in out.glob("poisons/*.safetensors"):
        assert folder.poison(path.stem) is not None
    for path in out.glob("plans/*.json"):
        assert json.loads(path.read_text())["cells"]
    return found


def test_kills_at_any_moment_change_no_result(data: str, tmp_path: Path) -> None:
    """The state is saved after every step, so that a kill falls into the writing too."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"

    def start(out: Path) -> ForkServerProcess:
        return processes.start(*arguments(data, out), output=tmp_path / "log", save_each_step=True)

    assert processes.finish(start(undisturbed)) == [0]
    expected = results(undisturbed)
    assert len(expected) == 4

    delays = random.Random(0)
    killed = 0
    for _ in range(4):
        process = start(disturbed)
        wait_for_work(disturbed, ended=lambda: process.exitcode is not None)  # noqa: B023
        time.sleep(delays.uniform(0.05, 0.8))
        process.kill()
        killed += processes.finish(process) == [-signal.SIGKILL]
        assert results(disturbed).items() <= expected.items()
    assert killed >= 2
    assert processes.finish(start(disturbed)) == [0]
    assert results(disturbed) == expected
    assert not list(disturbed.glob("work/*.safetensors"))


def test_an_interrupt_ends_with_one_line_and_damages_nothing(data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from unlearnable_bench.cli import main; main()"]
    with subprocess.Popen(
        [*command, *arguments(data, out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        wait_for_work(out, ended=lambda: process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message.count("\n") == 1
    assert "run the same command again" in message
    results(out)
    assert (out / "ubench.json").is_file()


@pytest.mark.parametrize("held", ["cells", "poisons"])
@pytest.mark.parametrize("pack", [1, 2])
def test_ctrl_c_ends_the_waiting_for_another_process(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: int, held: str
) -> None:
    settings = {"sem.steps": "1", "small-cnn.width": "4"}
    plan = make_plan(methods=["sem"], dataset=data, settings=settings, clean=False)
    keys = {cell.key if held == "cells" else cell.poison.key for cell in plan.cells}
    plan = dataclasses.replace(plan, cells=plan.cells * 2)  # two, so that they are packed
    folder = ResultsFolder(tmp_path / "out", create=True)
    with ExitStack() as locks:
        for key in keys:
            assert locks.enter_context(folder.claim(key, wait=False))
        # Were the Ctrl-C unheard, this would let the run end all the same.
        release = threading.Timer(30, locks.close)
        interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        first = threading.Lock()  # never released: both threads wait, one starts the timer

        def pause(_seconds: float) -> None:
            if first.acquire(blocking=False):
                interrupt.start()
            interrupt.finished.wait(0.1)

        for waiting in (lock_files, executor):
            monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=pause))
        release.start()
        with pytest.raises(KeyboardInterrupt):
            run(plan, folder.path, device="cpu", pack=pack)
        assert release.is_alive()
        release.cancel()
