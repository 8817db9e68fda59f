"""Where time goes: each second counts once, and for a resumed run those before count too."""

import itertools
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import make_harness

from unlearnable_bench.harness import checkpoint, timesheet
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.timesheet import Timesheet


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    told = SimpleNamespace(perf_counter=lambda: clock.now, monotonic=lambda: clock.now)
    monkeypatch.setattr(timesheet, "time", told)
    monkeypatch.setattr(checkpoint, "time", told)
    return clock


def test_what_is_within_counts_once(clock: Clock) -> None:
    times = Timesheet()
    clock.pass_by(1)
    with times.on("evaluation"):
        clock.pass_by(2)
        with times.on("warmup"):
            clock.pass_by(4)
        clock.pass_by(8)
    clock.pass_by(16)
    assert times.read() == {"work": 17, "evaluation": 10, "warmup": 4}
    assert times["warmup"] == 4
    assert times["preparation"] == 0


def test_what_fails_ends_its_kind(clock: Clock) -> None:
    times = Timesheet()
    with suppress(KeyError), times.on("evaluation"):
        clock.pass_by(1)
        raise KeyError
    clock.pass_by(2)
    assert times.read() == {"work": 2, "evaluation": 1}


def test_a_resumed_run_counts_each_step_once(clock: Clock, tmp_path: Path) -> None:
    for runs, stop in enumerate((3, 5, 6), 1):
        harness = make_harness()
        harness.checkpoint = Checkpoint(tmp_path / "state.safetensors", interval=0)
        with harness.times.on("warmup"):
            clock.pass_by(1)
        harness.keep(state=torch.zeros(()))
        for step in harness.loop("steps", 9):
            clock.pass_by(5)
            if step == stop:  # killed before its state is written
                break
        assert harness.times.read() == {"work": 5 * (stop + 1), "warmup": runs}


@pytest.mark.parametrize(("took", "pause"), [(0.125, 60), (1, 60), (3, 180)])
def test_slow_writing_is_seldom(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: float, pause: float
) -> None:
    written = []

    def write(_tensors: object, path: Path, _about: object) -> None:
        written.append(clock.now)
        clock.pass_by(took)
        path.touch()

    monkeypatch.setattr(checkpoint, "save_file", write)
    monkeypatch.setattr(checkpoint.seal, "seal_file", lambda _path: None)
    kept = Checkpoint(tmp_path / "state.safetensors")
    kept.keep(Timesheet(), state=torch.zeros(()))
    for _ in kept.loop("steps", 1000):
        clock.pass_by(1)
    gaps = [later - earlier - took for earlier, later in itertools.pairwise(written)]
    assert gaps
    assert all(pause <= gap <= pause + 1 for gap in gaps)
