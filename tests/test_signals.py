"""A signal ends a run at the next step of its loops, and no finished step is done again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from commands import arrays

from unlearnable_bench import api
from unlearnable_bench.harness.progress import Silent
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import worker

COMMON = {"training.epochs": "2", "small-cnn.width": "4"}
SHORT = {"noise_steps": "1", "steps": "4"}
ALTERNATION = SHORT | {"samples": "1", "attack_steps": "1"}
ROUNDS = {"noise_steps": "1", "rounds": "3", "batches": "1", "stop_error": "0"}
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "sem": ("sem", ALTERNATION),
    "rem": ("rem", ALTERNATION),
    "em": ("em", ROUNDS),
    "em classwise": ("em", ROUNDS | {"variant": "classwise", "batch_size": "40"}),
    "em misaligned": ("em", SHORT | {"variant": "misaligned"}),
    "tap": ("tap", {"steps": "2", "batch_size": "40"}),
    "ntga": ("ntga", {"block": "40", "validation": "10", "kernel": "fnn"}),
}


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "tiny.npz", **arrays())
    return f"npz:{tmp_path / 'tiny.npz'}"


class Signalling(Silent):
    """Progress that sends this process a signal in a step of a loop, and notes all steps."""

    def __init__(self, label: str, step: int, number: int = signal.SIGINT, times: int = 1) -> None:
        self.label, self.step, self.number, self.times = label, step, number, times
        self.steps: list[tuple[str, int]] = []

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        for step in steps:
            self.steps.append((label, step))
            if (label, step) == (self.label, self.step):
                for _ in range(self.times):
                    os.kill(os.getpid(), self.number)
                if threading.current_thread() is not threading.main_thread():
                    time.sleep(0.3)  # until the main thread has heard it
            yield step


def planned(data: str, method: str) -> Plan:
    name, options = METHODS[method]
    own = {f"{name}.{option}": value for option, value in options.items()}
    return api.make_plan(methods=[name], dataset=data, settings=COMMON | own, clean=False)


def results(out: Path) -> list[tuple[Any, ...]]:
    return [
        (record.key, record.epoch_accuracy, record.train_accuracy, record.poison["sha256"])
        for record in ResultsFolder(out).records()
    ]


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_in_any_loop_loses_no_step(
    method: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupt before the last step of each loop in turn; no step is repeated."""
    monkeypatch.setattr(worker, "CACHED_SECONDS", 0)  # quick noise would be made again
    plan = planned(data, method)
    whole = Signalling("", -1)
    api.run(plan, tmp_path / "whole", device="cpu", progress=whole)
    lasts = dict(whole.steps)
    begun: list[tuple[str, int]] = []
    for label, last in lasts.items():
        progress = Signalling(label, last)
        with pytest.raises(KeyboardInterrupt, match=r"0 of 1 cell finished; saved: \w+, \d+ of "):
            api.run(plan, tmp_path / "parts", device="cpu", progress=progress)
        assert progress.steps.pop() == (label, last)
        begun += progress.steps
    progress = Signalling("", -1)
    summary = api.run(plan, tmp_path / "parts", device="cpu", progress=progress)
    assert begun + progress.steps == whole.steps
    assert (summary.computed, summary.failures) == (1, ())
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    assert len(lasts) == {"sem": 3, "rem": 3, "em misaligned": 3, "tap": 3}.get(method, 2)


@pytest.mark.parametrize("pack", [1, 2])
def test_every_thread_saves_its_cell(pack: int, data: str, tmp_path: Path) -> None:
    plan = api.make_plan(methods=["clean", "random"], dataset=data, settings=COMMON)
    label = f"{plan.cells[0].name}: training"
    with pytest.raises(KeyboardInterrupt) as stopped:
        api.run(plan, tmp_path / "parts", device="cpu", progress=Signalling(label, 5), pack=pack)
    assert "; saved: training, 5 of " in str(stopped.value)
    states = len(list(tmp_path.glob("parts/work/*.safetensors")))
    assert states == str(stopped.value).count("saved: training")
    api.run(plan, tmp_path / "parts", device="cpu", pack=pack)
    api.run(plan, tmp_path / "whole", device="cpu", pack=pack)
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_a_second_ctrl_c_does_not_wait_for_the_step(data: str, tmp_path: Path) -> None:
    plan = planned(data, "sem")
    label = f"{plan.cells[0].poison.name}: surrogate"
    with pytest.raises(KeyboardInterrupt) as stopped:
        api.run(plan, tmp_path / "out", device="cpu", progress=Signalling(label, 2, times=2))
    assert str(stopped.value) == ""
    assert not list(tmp_path.glob("out/work/*.safetensors"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_is_left_alone(data: str, tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        plan = planned(data, "sem")
        label = f"{plan.cells[0].poison.name}: surrogate"
        progress = Signalling(label, 2, signal.SIGTERM)
        assert api.run(plan, tmp_path / "out", device="cpu", progress=progress).computed == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


PLUGIN = """
import os, pathlib, time, torch
from unlearnable_bench import Attack, Poison, Radius

class Signalled(Attack):
    name = "signalled"
    surrogate = "none"

    def generate(self, images, harness):
        noise = torch.zeros(images.images.shape).permute(0, 3, 1, 2)
        harness.keep(noise=noise)
        for k in harness.loop("noise", 4):
            noise += k
            once = pathlib.Path(__file__).with_name("signalled")
            if k == 1 and not once.exists():
                once.touch()
                {act}
        return Poison.from_noise(images, noise, Radius("8/255"))
"""


def signalled(data: str, folder: Path, act: str) -> tuple[int | None, str]:
    """Run the command, in which a step executes `act`; return its exit code and stderr."""
    plugin = folder / "plugin.py"
    if not plugin.exists():
        plugin.write_text(PLUGIN.format(act=act))
    settings = (part for name in COMMON.items() for part in ("--set", "=".join(name)))
    process = processes.start(
        *("run", "--methods", "signalled", "--plugin", str(plugin), "--no-clean", *settings),
        *("--preset", "smoke", "--device", "cpu", "--dataset", data, "--out", str(folder / "out")),
        output=folder / "log",
    )
    (code,) = processes.finish(process)
    return code, processes.printed(folder / "log")[1]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_command_says_what_is_saved_and_resumes(name: str, data: str, tmp_path: Path) -> None:
    number = getattr(signal, name)
    act = f"os.kill(os.getpid(), {int(number)})"
    message = (
        f"ubench: interrupted by {name}; 0 of 1 cell finished; saved: noise, 2 of 4 steps "
        "(signalled, small-cnn[width=4], rho_a 0, seed 0); run the same command again to resume\n"
    )
    assert signalled(data, tmp_path, act) == (128 + number, message)
    assert signalled(data, tmp_path, act) == (0, "")
    (record,) = ResultsFolder(tmp_path / "out").records()
    assert record.poison["resumed"]
    # 0 + 1 + 2 + 3 on every value that is not clipped.
    assert record.poison["quality"]["linf"] == 6


def test_a_second_signal_ends_the_command_at_once(data: str, tmp_path: Path) -> None:
    act = "[os.kill(os.getpid(), 15) for _ in range(2)]; time.sleep(100)"
    started = time.monotonic()
    assert signalled(data, tmp_path, act) == (
        143,
        "ubench: ended at once; run the same command again to resume\n",
    )
    assert time.monotonic() - started < 100
    assert not list(tmp_path.glob("out/work/*.safetensors"))


def test_an_ignored_signal_stays_ignored(data: str, tmp_path: Path) -> None:
    """As after `nohup`, or of a job in the background of a script."""
    (tmp_path / "plugin.py").write_text(
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        + PLUGIN.format(act="os.kill(os.getpid(), 1)")
    )
    assert signalled(data, tmp_path, "") == (0, "")
    assert (tmp_path / "signalled").exists()


def test_a_script_saves_its_state_before_it_dies_of_a_signal(data: str, tmp_path: Path) -> None:
    script = f"""
import signal
from test_signals import Signalling, planned
from unlearnable_bench import api
plan = planned({data!r}, "sem")
label = plan.cells[0].poison.name + ": surrogate"
api.run(plan, "out", device="cpu", progress=Signalling(label, 2, signal.SIGTERM))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert "interrupted by SIGTERM; 0 of 1 cell finished; saved: surrogate, 2 of 4" in done.stderr
    assert len(list(tmp_path.glob("out/work/*.safetensors"))) == 1


def test_a_signal_before_the_first_cell_ends_with_one_line(data: str, tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text("import os\nos.kill(os.getpid(), 15)\n")
    process = processes.start(
        *("run", "--methods", "sem", "--plugin", str(tmp_path / "early.py"), "--dataset", data),
        output=tmp_path / "log",
    )
    assert processes.finish(process) == [143]
    _, err = processes.printed(tmp_path / "log")
    assert err == "ubench: interrupted by SIGTERM; run the same command again to resume\n"
