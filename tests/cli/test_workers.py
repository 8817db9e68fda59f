"""Several worker processes on one machine: `--workers`, `--gpus`, and how the work is divided."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, run_tiny
from deadly import deadly, frozen
from faults.world import elsewhere
from helpers import small_data

from unlearnable_bench import Radius, load_records, make_plan
from unlearnable_bench.commands.executors import chosen_executor, job_of
from unlearnable_bench.datasets.npz import write_npz
from unlearnable_bench.errors import UserError
from unlearnable_bench.executors import gpus
from unlearnable_bench.executors.gpus import Card, parse_cards
from unlearnable_bench.executors.local import Local, usual_workers
from unlearnable_bench.planning import registry
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import pool, worker_process
from unlearnable_bench.running.work import longest_first
from unlearnable_bench.storage.locks import is_siblings

CARDS = """0, GPU-aaaa, NVIDIA H200, 4, 143771
1, GPU-bbbb, NVIDIA H200, 70000, 143771
2, GPU-cccc, NVIDIA H200, [N/A], 143771
"""


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{CARDS}END\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "numbered"),
    [
        (None, ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]),
        ("2,0", ["GPU-cccc", "GPU-aaaa"]),
        ("GPU-bb", ["GPU-bbbb"]),
        ("", []),
        ("MIG-1", []),
    ],
)
def test_cards_are_numbered_as_cuda_does(visible: str | None, numbered: list[str]) -> None:
    cards = parse_cards(CARDS, visible)
    assert [card.uuid for card in cards] == numbered
    assert [card.number for card in cards] == [*range(len(numbered))]


@pytest.mark.usefixtures("nvidia_smi")
def test_gpus_names_the_cards_and_skips_those_in_use(ubench: Command) -> None:
    words = run_tiny("--methods", "random", "--dry-run")
    words = tuple(word for word in words if word not in ("--device", "cpu"))
    result = ubench(*words, "--gpus", "all")
    assert (
        "device    2 GPUs: 0 (NVIDIA H200), 2 (NVIDIA H200); skipped, in use: "
        "1 (NVIDIA H200, 68 of 140 GiB in use)\n"
    ) in result.out
    chosen = ubench(*words, "--gpus", "1").out
    assert "device    1 GPU: 1 (NVIDIA H200, 68 of 140 GiB in use)\n" in chosen
    refused = ubench(*words, "--gpus", "0,5")
    assert refused.code == 2
    assert refused.err.startswith("ubench: --gpus 0,5: no GPU '5'; there are 0 (NVIDIA H200), 1 (")


def test_gpus_without_cards_is_refused_with_what_to_use(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    line = refused("run", "--methods", "random", "--preset", "smoke", "--gpus", "all")
    assert line == "ubench: --gpus: nvidia-smi names no GPU here; use --workers or --device\n"


def test_the_longest_cell_that_makes_a_noise_is_first(tmp_path: Path) -> None:
    write_npz(small_data(), tmp_path / "d.npz")
    plan = make_plan(
        methods=["em", "sem"],
        dataset=f"npz:{tmp_path / 'd.npz'}",
        rho_a=[Radius("0"), Radius("4/255")],
        settings={"sem.steps": 1000, "em.rounds": 1},
    )
    order = longest_first(plan.work, lambda _key: False)
    # SEM's 1,000 updates cost far more than EM's round, and adversarial training more than
    # standard training; the other cell of a noise does not pay for it again.
    assert [(one.attack_label.partition("[")[0], str(one.rho_a)) for one in order] == [
        ("sem", "4/255"), ("em", "4/255"), ("clean", "4/255"), ("clean", "0"), ("em", "0"),
        ("sem", "0"),
    ]  # fmt: skip
    known = longest_first(plan.work, lambda _key: True)
    assert [str(one.rho_a) for one in known] == ["4/255"] * 3 + ["0"] * 3


def test_two_worker_processes_give_the_results_of_one(ubench: Command, workplace: Path) -> None:
    words = run_tiny("--methods", "random,sc", "--rho-a", "0,1/255", "--threads", "1")
    result = ubench(*words, "--workers", "2")
    assert (result.code, result.err) == (0, "")
    assert "device    2 worker processes on CPU" in result.out
    assert result.out.count("done: ") == 6
    assert "6 cells computed, 0 reused" in result.out
    alone = ubench(*words[:-2], "--threads", "1", "--out", "alone")
    assert alone.code == 0
    tables = [[line for line in one.out.splitlines() if "│" in line] for one in (result, alone)]
    assert tables[0] == tables[1]
    frames = [load_records(workplace / name).set_index("key") for name in ("out", "alone")]
    assert frames[0]["test_accuracy"].to_dict() == frames[1]["test_accuracy"].to_dict()


def test_a_cpu_has_a_worker_for_each_of_its_threads(
    ubench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unlearnable_bench.running.threads.default_threads", lambda: 2)
    words = run_tiny("--methods", "random", "--dry-run")
    assert "device    2 worker processes on CPU" in ubench(*words).out
    for option in (
        ("--workers", "1"), ("--executor", "local"), ("--pack", "1"), ("--threads", "1"),
        ("--set", "local.workers=1"), ("--no-clean",),
    ):  # fmt: skip
        assert "device    CPU" in ubench(*words, *option).out
    done = ubench(*words[:-1])
    assert done.code == 0
    assert {record.environment["threads"] for record in ResultsFolder(Path("out")).records()} == {1}
    assert [*map(usual_workers, (1, 2, 9))] == [None, Local(workers=2), Local(workers=2)]
    monkeypatch.setattr("unlearnable_bench.running.threads.default_threads", lambda: 64)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 10**9))
    assert usual_workers(30) == Local(workers=8)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 4 << 20))
    assert usual_workers(30) == Local(workers=4)  # 16 GiB


def test_a_lock_of_another_worker_of_the_same_command_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    hold = (
        "from pathlib import Path; from unlearnable_bench.storage.locks import locked; import sys\n"
        "with locked(Path(sys.argv[1]), wait=False): print('held', flush=True); input()"
    )
    look = (
        "from pathlib import Path; from unlearnable_bench.storage.locks import is_siblings\n"
        "import sys; print(is_siblings(Path(sys.argv[1])))"
    )
    words = [sys.executable, "-c"]
    with subprocess.Popen(
        [*words, hold, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "held\n"
        assert subprocess.check_output([*words, look, path], text=True) == "True\n"
        assert not is_siblings(path)  # a child's
        holding.communicate("\n")
    assert not is_siblings(path)


def test_a_cell_that_ends_its_workers_fails_and_the_others_are_finished(tmp_path: Path) -> None:
    code, out, err, failures = elsewhere(deadly, tmp_path)
    assert code == 2
    assert "2 cells computed, 0 reused" in out
    assert err.count("was killed by SIGKILL (out of memory?); its cell is free (deadly, ") == 2
    # The other worker may have begun it before the third loss was seen.
    given_up = err.count("was killed by SIGKILL (out of memory?); its cell is given up (deadly, ")
    assert given_up in (1, 2)
    assert "deadly, small-cnn, rho_a 0, seed 0: 3 worker processes were lost at it; the last" in err
    assert "wrong, small-cnn, rho_a 0, seed 0: ValueError: not today" in err
    assert "blocked, small-cnn, rho_a 0, seed 0: it made no step of its loops for 3s and" in err
    assert sorted(failures) == ["blocked", "deadly", "wrong"]
    assert (tmp_path / "tried").read_text() == "x"  # by one of the workers


def test_a_frozen_worker_is_ended_and_replaced(tmp_path: Path) -> None:
    code, out, err, stacks = elsewhere(frozen, tmp_path)
    assert (code, "3 cells computed, 0 reused" in out) == (0, True)
    assert err.count(" ran no code for 6 s, a deadlock, and was ended (its threads: /") == 1
    assert "frozen.py" in stacks
    assert "in generate" in stacks


def test_a_stopped_worker_is_not_frozen() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert not pool._is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        while not pool._is_stopped(process.pid):
            time.sleep(0.01)
        assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        while pool._is_stopped(process.pid):
            time.sleep(0.01)
        process.kill()
    assert not pool._is_stopped(process.pid)


@pytest.mark.parametrize(
    ("name", "settings", "more", "line"),
    [
        ("slurmm", {}, {}, "unknown executor 'slurmm'"),
        ("gpus", {}, {"device": "cuda:1"}, "--device cuda:1 does not fit --executor gpus"),
        ("local", {}, {"gpus": "0"}, "--gpus does not fit --executor local"),
        (None, {}, {"gpus": "0", "workers": 2}, "give one of --gpus and --workers"),
        (None, {"gpus.cards": "0"}, {}, "--set gpus.cards: add --executor gpus"),
        ("gpus", {"gpus.number": "0"}, {}, "unknown option of gpus 'number'"),
        (None, {"local.workers": "0"}, {}, "workers must be at least 1"),
    ],
)
def test_executors_and_options_that_do_not_fit_are_refused(
    name: str | None, settings: dict[str, str], more: dict[str, str], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        chosen_executor(name, settings, **more)  # type: ignore[arg-type]


def test_settings_of_executors_are_no_part_of_the_plan() -> None:
    settings = {"local.workers": "3", "sem.steps": "5"}
    executor = chosen_executor(None, settings)
    assert executor == registry.executors.choose("local", {"workers": 3}).plugin
    assert settings == {"sem.steps": "5"}


def test_a_single_local_worker_is_this_process() -> None:
    assert chosen_executor(None, {}) is None
    assert chosen_executor("local", {}, workers=1) is None


def test_a_worker_refuses_a_job_whose_cells_its_plan_lacks(
    ubench: Command, workplace: Path
) -> None:
    write_npz(small_data(), workplace / "d.npz")
    job = job_of(
        ["0" * 32], out=workplace / "out", options={"methods": "random", "preset": "smoke"},
        plugins=[], device="cpu", pack=None, threads=1,
    )  # fmt: skip
    with pytest.raises(UserError, match="1 of 1 cells of this job are not in the plan made here"):
        worker_process.plan_of(job)
    assert ubench("worker", "--job", "tiny.npz").err.startswith("ubench: tiny.npz is not a job of")


EXECUTOR = '''
"""Computes here, and says so."""
from dataclasses import dataclass
from unlearnable_bench import Executor, option

@dataclass(frozen=True, kw_only=True)
class Mine(Executor):
    """Computes here, and says so."""
    word: str = option("hello", "text that is printed")

    def described(self, device):
        return f"mine, on {device[:3]}"

    def run(self, work):
        work.screen.say(f"{self.word}: {len(work.job.cells)} cells")
        return work.here()
'''


def test_an_executor_of_a_plugin_file_is_used(ubench: Command, workplace: Path) -> None:
    (workplace / "mine.py").write_text(EXECUTOR)
    more = ("--plugin", "mine.py", "--executor", "mine", "--set", "mine.word=hi")
    result = ubench(*run_tiny("--methods", "random", *more))
    assert (result.code, result.err) == (0, "")
    assert "device    mine, on CPU\n" in result.out
    assert "\nhi: 2 cells\n" in result.out
    assert "2 cells computed, 0 reused" in result.out
    again = ubench("list", "executors").out
    assert again.index("gpus ") < again.index("local ") < again.index("slurm ")


def test_the_time_of_workers_on_gpus_is_not_that_of_this_cpu(
    ubench: Command, workplace: Path
) -> None:
    cuda = (
        EXECUTOR
        + """
    def worker_device(self):
        return "cuda"
"""
    )
    (workplace / "mine.py").write_text(cuda)
    words = [word for word in run_tiny("--methods", "random") if word not in ("--device", "cpu")]
    result = ubench(*words, "--plugin", "mine.py", "--executor", "mine")
    assert (result.code, result.err) == (0, "")
    assert re.search("estimate  .* image passes; use --dry-run for a time\n", result.out)


@pytest.mark.parametrize(
    ("cards", "device", "chosen"),
    [
        (0, "", "local"),
        (1, "", "1 GPU: 0 (NVIDIA H200, 68 of 140 GiB in use)"),
        (2, "", "1 GPU: 1 (NVIDIA H200); skipped, in use: 0 (NVIDIA H200, 68 of 140 GiB in use)"),
        (2, "cuda", "local"),
        (2, "cpu", "local"),
    ],
)
def test_gpus_compute_in_worker_processes_unless_a_device_is_given(
    cards: int, device: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Card(k, f"GPU-{k}", "NVIDIA H200", (70000, 4)[k], 143771) for k in range(cards)]
    monkeypatch.setattr(gpus, "visible_cards", lambda: found)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    executor = chosen_executor(None, {}, device=device)
    assert (executor.described("") if executor else "local") == chosen


def test_a_card_of_a_setting_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "visible_cards", lambda: [Card(0, "GPU-0", "H", 4, 100)])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    executor = chosen_executor(None, {"gpus.cards": "all"})
    assert executor
    assert executor.described("") == "1 GPU: 0 (H)"
