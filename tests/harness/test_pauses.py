"""A process that is stopped does not work: a pause counts as no kind of work."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import arrays

from unlearnable_bench.harness import pauses

# Three seconds of work, in which the test stops the process.
ATTACK = """
import time
from unlearnable_bench import Attack, Poison, Radius

class SlowNoise(Attack):
    surrogate = "none"

    def generate(self, images, harness):
        for step in harness.loop("work", 30):
            if step == 5:
                print("working", flush=True)
            time.sleep(0.1)
        return Poison.from_noise(images, 0 * images.images + 3.0, Radius("8/255"))
"""
RUN = """
import json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from unlearnable_bench import load_records, make_plan, run
from unlearnable_bench.planning.registry import load_plugin_file

load_plugin_file(Path("slow.py"))
settings = {"training.epochs": 1, "small-cnn.width": 4}
plan = make_plan(methods=["slow-noise"], dataset="npz:tiny.npz", settings=settings, clean=False)
started = time.perf_counter()
run(plan, "out", device="cpu")
whole = time.perf_counter() - started
[row] = load_records("out").to_dict("records")
print(json.dumps([whole, {k: v for k, v in row.items() if k.endswith("_seconds")}]))
"""


def test_a_stopped_run_is_not_working(tmp_path: Path) -> None:
    np.savez(tmp_path / "tiny.npz", **arrays(train=32, test=8))
    (tmp_path / "slow.py").write_text(ATTACK)
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(8)
        os.kill(process.pid, signal.SIGCONT)
        whole, seconds = json.loads(process.stdout.readline())
    # Of the whole, 8 s are a pause; the rest is the work and what is around it.
    assert whole > 11
    assert 2.5 < seconds["generation_seconds"] < whole - 7
    assert sum(seconds.values()) < whole - 7


class Process:
    """A clock and the CPU time of a process, in which a thread looks when told to."""

    def __init__(self) -> None:
        self.now, self.used = 50.0, 3.0
        self.watch = pauses._Watch(clock=lambda: self.now, cpu=lambda: self.used)
        self.watch._thread = SimpleNamespace(is_alive=lambda: True)  # type: ignore[assignment]
        self.watch._looked, self.watch._used = self.now, self.used

    def passes(self, seconds: float, *, used: float) -> float:
        """Let time pass, and return the seconds of pauses so far."""
        self.now += seconds
        self.used += used
        return self.watch.paused()


@pytest.fixture
def process() -> Process:
    return Process()


def test_a_gap_without_work_is_a_pause(process: Process) -> None:
    assert process.passes(0.1, used=0.1) == 0
    assert process.passes(60, used=0.2) == pytest.approx(59.9)  # two cores worked before it
    assert process.passes(0.1, used=0) == pytest.approx(59.9)
    assert process.passes(10, used=0) == pytest.approx(59.9 + 9.9)


@pytest.mark.parametrize(
    ("seconds", "used"),
    [
        (2.9, 0.0),  # a thread that is late
        (30.0, 30.0),  # code that lets no other thread of Python run
        (30.0, 3.1),  # such code on a loaded machine
    ],
)
def test_work_is_no_pause(process: Process, seconds: float, used: float) -> None:
    assert process.passes(seconds, used=used) == 0


def test_waiting_is_no_pause() -> None:
    before = pauses.paused_seconds()
    time.sleep(3.5)  # the thread looks meanwhile
    assert pauses.paused_seconds() == before
