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
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from unlearnable_bench import files, make_plan, run
from unlearnable_bench.results.store import ResultsFolder

# The state is written after every step instead of every minute, so that a kill
# falls into the writing too, and the next run has something to go on from.
UBENCH = """
from unlearnable_bench.harness.checkpoint import Checkpoint
assert Checkpoint.__init__.__defaults__ == (60.0,)
Checkpoint.__init__.__defaults__ = (0.0,)
from unlearnable_bench.cli import main
main()
"""


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


def start(data: str, out: Path) -> subprocess.Popen[str]:
    # Seconds of work, so that a signal finds it under way on a loaded machine too.
    settings = ("training.epochs=4", "sem.steps=300", "small-cnn.width=4")
    command = [
        *(sys.executable, "-c", UBENCH, "run", "--methods", "sem", "--rho-a", "0,2/255"),
        *("--preset", "smoke", "--device", "cpu", "--dataset", data, "--out", str(out)),
        *(part for setting in settings for part in ("--set", setting)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def wait_for_work(process: subprocess.Popen[str], out: Path) -> None:
    """Wait until this process has claimed something: a lock file newer than its start."""
    started = time.time()
    while process.poll() is None:
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
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    with start(data, undisturbed) as process:
        assert process.wait(240) == 0
    expected = results(undisturbed)
    assert len(expected) == 4

    delays = random.Random(0)
    killed = 0
    for _ in range(4):
        with start(data, disturbed) as process:
            wait_for_work(process, disturbed)
            time.sleep(delays.uniform(0.05, 0.8))
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        assert results(disturbed).items() <= expected.items()
    assert killed >= 2
    with start(data, disturbed) as process:
        assert process.wait(240) == 0
    assert results(disturbed) == expected
    assert not list(disturbed.glob("work/*.safetensors"))


def test_an_interrupt_ends_with_one_line_and_damages_nothing(data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start(data, out) as process:
        wait_for_work(process, out)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message.count("\n") == 1
    assert "run the same command again to continue" in message
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

        monkeypatch.setattr(files, "time", SimpleNamespace(sleep=pause))
        release.start()
        with pytest.raises(KeyboardInterrupt):
            run(plan, folder.path, device="cpu", pack=pack)
        assert release.is_alive()
        release.cancel()
