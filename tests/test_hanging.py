"""What goes wrong in one cell costs that cell: hangs, NaN, exhausted memory, exceptions."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from helpers import small_data

from unlearnable_bench import api
from unlearnable_bench.attacks.random import Random
from unlearnable_bench.contract import Attack, Dataset, Defense
from unlearnable_bench.harness import Harness
from unlearnable_bench.images import Data, ImageSet
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.poison import Poison
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import environment, executor, restart
from unlearnable_bench.running.executor import Summary
from unlearnable_bench.running.stall import Stall, StalledError, Watch

# Cells are ended after two seconds without a step, which includes imports at their first use.
pytestmark = pytest.mark.usefixtures("imported")
SETTINGS = {"training.epochs": 1, "small-cnn.width": 4}
MAIN = "from unlearnable_bench.cli import main; main()"


class Small(Dataset):
    """Twelve images."""

    def load(self) -> Data:
        return small_data()


class Broken(Attack):
    """An attack that does what a test asks for."""

    surrogate: ClassVar[Literal["none"]] = "none"
    action: ClassVar[Callable[[], object]]

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        type(self).action()
        return Random().generate(images, harness)


class Breaking(Defense):
    """A defense that does what a test asks for."""

    action: ClassVar[Callable[[], object]]

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        type(self).action()
        return images


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    run(planned(methods=["random"]), tmp_path_factory.mktemp("imports") / "out")


def planned(**more: Any) -> Plan:
    settings = SETTINGS | more.pop("settings", {})
    return api.make_plan(dataset=Small, preset="smoke", settings=settings, **more)


def run(plan: Plan, out: Path, **more: Any) -> Summary:
    return api.run(plan, out, device="cpu", threads=1, **more)


def reasons(summary: Summary, out: Path) -> set[str]:
    """Return the reasons of failures, which are on disk too, with their tracebacks."""
    stored = ResultsFolder(out).failures()
    assert {f.cell.key for f in summary.failures} == stored.keys()
    assert all(found["traceback"] for found in stored.values())
    return {failure.reason.partition(" (/tmp")[0] for failure in summary.failures}


def spin() -> None:
    while True:
        time.sleep(0.001)


@pytest.mark.parametrize("pack", [1, 2])
def test_a_cell_that_hangs_is_ended_and_marked(tmp_path: Path, pack: int) -> None:
    Broken.action = spin
    plan = planned(methods=[Broken, "random"])
    stall = Stall(2.0, "two seconds", tick=0.05)
    summary = run(plan, tmp_path / "out", pack=pack, stall=stall)
    assert (summary.computed, len(summary.failures)) == (2, 1)
    (reason,) = reasons(summary, tmp_path / "out")
    assert reason.startswith("it made no step of its loops for two seconds and was ended")
    (found,) = ResultsFolder(tmp_path / "out").failures().values()
    assert "in spin" in found["traceback"]


def test_a_cell_that_hangs_in_training_is_ended_and_its_noise_is_not_lost(tmp_path: Path) -> None:
    Breaking.action = spin
    plan = planned(methods=["random"], defenses=["none", Breaking], clean=False)
    summary = run(plan, tmp_path / "out", stall=Stall(2.0, "2 s", tick=0.05))
    assert [f.cell.labels["defense"] for f in summary.failures] == ["breaking"]
    assert summary.computed == 1


def test_a_slow_cell_that_makes_steps_is_not_ended(tmp_path: Path) -> None:
    class Slow:
        """Progress that takes its time."""

        def track(self, label: str, total: int, steps: Any) -> Any:
            for step in steps:
                time.sleep(0.4)
                yield step

    plan = planned(methods=["clean"], settings={"training.epochs": 5, "training.batch_size": 6})
    summary = run(plan, tmp_path / "out", stall=Stall(2.5, "2.5 s", tick=0.05), progress=Slow())
    assert (summary.computed, summary.failures) == (1, ())  # 10 steps of 0.4 s


def test_an_end_that_comes_too_late_does_not_hit_the_next_cell() -> None:
    item: Any = "a cell"
    with Watch(Stall(0.0, "no time", tick=0.001)) as watch:
        for _ in range(20):
            with suppress(StalledError), watch.over(item):
                time.sleep(0.003)
            time.sleep(0.002)  # outside: nothing may be raised here


def test_a_cell_that_cannot_be_ended_is_reported_with_its_stack() -> None:
    event, seen = threading.Event(), []

    def lost(item: Any, reason: str, stack: str) -> None:
        seen.append((item, reason, "event.wait" in stack))
        event.set()

    item: Any = "a cell"
    with (
        Watch(Stall(0.1, "0.1 s", lost, grace=0.1, tick=0.02)) as watch,
        pytest.raises(Exception, match=r"0\.1 s"),
        watch.over(item),
    ):
        event.wait(30)  # a call outside of Python
    reason = "it made no step of its loops for 0.1 s and could not be ended"
    assert seen == [("a cell", reason, True)]


def test_a_gpu_that_computes_nothing_any_more_gives_up_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Broken.action = raising(RuntimeError("CUDA error: an illegal memory access"))
    given_up: list[tuple[str, str]] = []
    monkeypatch.setattr(executor, "is_usable", lambda _device: False)
    stall = Stall(60, "60 s", lambda item, reason, _: given_up.append((item.key, reason)))
    plan = planned(methods=[Broken], clean=False)
    run(plan, tmp_path / "out", stall=stall)
    ((key, reason),) = given_up
    assert key == plan.cells[0].key
    assert reason.startswith("RuntimeError: CUDA error: an illegal memory access")


@pytest.mark.parametrize(
    ("error", "usable"),
    [(None, True), (torch.OutOfMemoryError("full"), True), (RuntimeError("CUDA error"), False)],
)
def test_only_an_error_of_the_whole_gpu_makes_it_unusable(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, usable: bool
) -> None:
    def zeros(*_sizes: int, **_options: Any) -> torch.Tensor:
        if error:
            raise error
        return torch.ones(1)

    monkeypatch.setattr(environment.torch, "zeros", zeros)
    assert environment.is_usable(torch.device("cuda:0")) is usable
    assert environment.is_usable(torch.device("cpu"))


PLUGIN = """
import time
from dataclasses import dataclass
from unlearnable_bench import Attack

@dataclass(frozen=True, kw_only=True)
class Hang(Attack):
    '''Noise that is never finished.'''
    surrogate = "none"
    def generate(self, images, harness):
        time.sleep(1000)
"""


def test_a_run_starts_again_without_a_cell_that_blocks_it(tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text(PLUGIN)
    asked = ["run", "--plugin", "hang.py", "--methods", "hang,random", "--preset", "smoke"]
    asked += ["--set", "shapes.train=40", "--set", "shapes.test=20", "--stall-limit", "6s"]
    asked += ["--set", "training.epochs=1", "--out", "out", "--device", "cpu", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *asked, "--rho-a", "0,4/255"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    assert "made no step of its loops for 6s and could not be ended" in done.stderr
    assert done.stderr.count("the run starts again without it") == 1
    records = [json.loads(path.read_text()) for path in (tmp_path / "out/cells").iterdir()]
    assert sorted(record["attack"] for record in records) == ["clean", "clean", "random", "random"]
    # Both cells of the noise are marked, since each would hang.
    failures = ResultsFolder(tmp_path / "out").failures()
    assert [found["labels"]["attack"] for found in failures.values()] == ["hang", "hang"]
    assert all("time.sleep(1000)" in found["traceback"] for found in failures.values())


def test_a_restart_is_the_same_command_without_the_cells_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "unlearnable_bench", "run"])
    monkeypatch.setenv("UBENCH_GIVEN_UP", "a")
    restart.restart_without(["b"])
    ((program, words, environment),) = calls
    assert (program, words[1:]) == (sys.executable, ["-m", "unlearnable_bench", "run"])
    assert environment["UBENCH_GIVEN_UP"] == "a,b"


def out_of_memory() -> None:
    torch.empty(1 << 55)


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize("pack", [1, 2])
@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (out_of_memory, "RuntimeError: "),
        (raising(torch.OutOfMemoryError("2 GiB")), "GPU out of memory; add --pack 1"),
        (raising(MemoryError()), "out of memory; "),
        (raising(ValueError("no")), "ValueError: no"),
        (raising(SystemExit("no")), "SystemExit: no"),
        (raising(asyncio.CancelledError("no")), "CancelledError: no"),
        (raising(GeneratorExit("no")), "GeneratorExit: no"),
    ],
)
def test_what_an_attack_raises_costs_its_cells_only(
    tmp_path: Path, action: Callable[[], None], reason: str, pack: int
) -> None:
    Broken.action = action
    plan = planned(methods=[Broken, "random"])
    summary = run(plan, tmp_path / "out", pack=pack)
    assert (summary.computed, len(summary.failures)) == (2, 1)
    (found,) = reasons(summary, tmp_path / "out")
    assert found.startswith(reason)


@pytest.mark.parametrize("pack", [1, 2])
def test_training_that_becomes_nan_costs_one_cell(tmp_path: Path, pack: int) -> None:
    class Overflowing(Defense):
        """Targets that no loss survives."""

        def augment(self, model: Any, x: Any, y: Any, random: Any) -> Any:
            return x, y * float("nan")

    plan = planned(methods=["random"], defenses=["none", Overflowing], clean=False)
    summary = run(plan, tmp_path / "out", pack=pack)
    assert summary.computed == 1
    (reason,) = reasons(summary, tmp_path / "out")
    assert reason.startswith("training diverged (")


def test_noise_that_becomes_nan_costs_its_cells(tmp_path: Path) -> None:
    plan = planned(methods=["sem", "random"], settings={"sem.steps": 3, "sem.lr": 1e30})
    summary = run(plan, tmp_path / "out")
    assert summary.computed == 2
    (reason,) = reasons(summary, tmp_path / "out")
    assert "NaN or infinity" in reason
