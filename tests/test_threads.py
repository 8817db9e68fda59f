"""The number of threads on the CPU, and the hint that another one is faster."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import arrays, run_tiny
from helpers import random_images
from typer.testing import CliRunner

from unlearnable_bench import UserError, cli, load_records, make_plan, run
from unlearnable_bench.harness.progress import Silent
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.running import threads
from unlearnable_bench.running.threads import usable_cores, use_threads
from unlearnable_bench.screen import estimate, pace
from unlearnable_bench.screen.pace import Pace, crowded


@pytest.fixture(autouse=True)
def _eight_cores_and_nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def group(root: Path, line: str, files: dict[str, str]) -> Path:
    """Write the control group of a process, and the files of groups under /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"9:name=systemd:/\n8:pids:/\n{line}\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("line", "files", "cores"),
    [
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "390000 100000"}, 3),  # a fourth thread would be held up
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "500000 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/of/the/host", {"cpu.max": "400000 100000"}, 4),  # in a container
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "nonsense"}, 8),
        (
            "4:cpu,cpuacct:/job",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "50000",
            },
            4,
        ),
        (
            "4:cpuacct,cpu:/job",
            {"cpu/job/cpu.cfs_quota_us": "200000", "cpu/job/cpu.cfs_period_us": "100000"},
            2,
        ),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        # Not of the controller of cores:
        ("4:cpuset:/", {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_the_quota_of_a_control_group_is_respected(
    line: str, files: dict[str, str], cores: int, tmp_path: Path
) -> None:
    assert usable_cores(group(tmp_path, line, files)) == cores


def test_affinity_and_slurm_are_respected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5")
    assert usable_cores(tmp_path) == 5
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 4})
    assert usable_cores(tmp_path) == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "0")
    assert usable_cores(tmp_path) == 1
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "few")
    assert usable_cores(tmp_path) == os.cpu_count()


@pytest.mark.parametrize(
    ("now", "cores", "omp", "given", "then"),
    [
        (4, 2, None, None, 2),  # the quota
        (1, 8, None, None, 1),  # torch.set_num_threads(1) of a notebook
        (4, 2, "4", None, 4),  # the user's own choice
        (4, 2, "", None, 2),
        (2, 8, None, 3, 3),
        (4, 2, "4", 3, 3),
        (2, 1, None, 3, 3),  # more than cores, to repeat a result
    ],
)
def test_the_users_number_comes_first_then_the_smaller_of_torchs_and_the_cores(
    now: int,
    cores: int,
    omp: str | None,
    given: int | None,
    then: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(now)
    monkeypatch.setattr(threads, "usable_cores", lambda: cores)
    if omp is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    use_threads(given)
    assert torch.get_num_threads() == then


@pytest.mark.parametrize("number", [0, -1, 1025, 2.0, True, "2"])
def test_another_number_is_refused(number: int) -> None:
    with pytest.raises(UserError, match="give a whole number from 1 to 1024"):
        use_threads(number)


@pytest.mark.parametrize(
    ("now", "all_take", "one_takes", "hint"),
    [
        (2, 1.2, 0.1, "with one thread a step takes 8% of its time with 2; "),
        (4, 1.0, 0.66, "with one thread a step takes 66% of its time with 4; "),
        (4, 1.0, 0.7, ""),  # within what a step varies
        (2, 0.1, 0.2, ""),
        (1, 1.2, 0.1, ""),  # nothing to compare
        (2, 2.1, 0.1, ""),  # not worth the time
    ],
)
def test_a_step_that_one_thread_does_faster_gives_a_hint(
    now: int, all_take: float, one_takes: float, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(now)
    stamps = iter([5, 5 + one_takes])
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: next(stamps)))
    seen: list[int] = []
    text = crowded(lambda: seen.append(torch.get_num_threads()), all_take)
    assert text == (f"{hint}other programs may use the cores: try --threads 1" if hint else "")
    assert all(number == 1 for number in seen)
    assert torch.get_num_threads() == now


@pytest.mark.parametrize(("workers", "hinted"), [("1", True), ("2", False)])
def test_workers_with_threads_of_their_own_get_no_such_hint(
    workers: str, *, hinted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "crowded", lambda *_: "try --threads 1")
    words = ["run", "--methods", "random", "--rho-a", "0,4/255", "--workers", workers, "--dry-run"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert ("try --threads 1" in result.output) == hinted


@pytest.fixture
def slow_plan(tmp_path: Path) -> Plan:
    """Cells of 10 steps of 32 images, each an epoch with a test on 60 images."""
    images = random_images(60, 16, 4)
    arrays = {"x_train": images.images, "y_train": images.labels, "class_names": [*"abcd"]}
    np.savez(tmp_path / "a.npz", x_test=images.images, y_test=images.labels, **arrays)  # type: ignore[arg-type]
    return make_plan(
        methods=["clean"],
        dataset=f"npz:{tmp_path / 'a.npz'}",
        settings={"training.epochs": 10, "training.batch_size": 32},
        defenses=["none", "cutout"],
        learners=["small-cnn", "resnet18"],
    )


@pytest.mark.parametrize(
    ("step_takes", "pack", "hint"),
    [
        # 10 epochs of one step and one test: 52 passes a step, 0.52 s at 0.01 s each.
        (2.0, 1, ""),
        (2.2, 1, "slow: a step takes 4 times the estimate"),
        (5.2, 1, "slow: a step takes 10 times the estimate"),
        (5.2, 4, ""),  # four cells share the cores
    ],
)
def test_steps_of_several_times_the_estimate_give_one_hint(
    slow_plan: Plan, step_takes: float, pack: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    said: list[str] = []
    expected = Pace(slow_plan, pack)
    progress = expected.watch(Silent(), said.append)
    first = slow_plan.cells[0]

    def run(label: str) -> list[float]:
        """Run ten steps; return the seconds after which the hints came."""
        start, came = clock[0], []
        for _ in progress.track(label, 10, range(10)):
            if len(said) > len(came):
                came.append(clock[0] - start)
            clock[0] += step_takes
        return came

    run(f"{first.name}: training")
    assert said == []  # nothing is expected yet
    expected.expect(0.01)
    run("another loop")
    unmeasured = [c for c in slow_plan.cells if "cutout" in c.name or "resnet18" in c.name]
    assert len(unmeasured) == 3
    for cell in unmeasured:
        run(f"{cell.name}: training")
    assert said == []
    came = run(f"{first.name}: training")
    assert len(said) == bool(hint)
    if hint:
        assert said[0].startswith(hint)
        assert "other programs may use the cores" in said[0]
        assert 10 <= came[0] <= 10 + step_takes  # not only at the end
        run(f"{first.name}: training")
        assert len(said) == 1


@pytest.mark.parametrize(("now", "step"), [(1, "compare with `top`"), (2, "try --threads 1")])
def test_the_hint_names_a_step_that_can_help(slow_plan: Plan, now: int, step: str) -> None:
    torch.set_num_threads(now)
    expected = Pace(slow_plan, 1)
    expected.expect(0.01)
    assert expected.check(f"{slow_plan.cells[0].name}: training", 10, 5, 30).endswith(step)


def test_the_option_is_in_the_records_and_not_in_the_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("tiny.npz", **arrays())
    found = []
    for count in ("1", "2"):
        line = run_tiny("--methods", "random", "--threads", count, "--out", f"out{count}")
        monkeypatch.setattr(sys, "argv", ["ubench", *map(str, line)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
        found.append(load_records(f"out{count}"))
    one, two = found
    assert list(one["key"]) == list(two["key"])
    assert [e["threads"] for e in one["environment"]] == [1, 1]
    assert [e["threads"] for e in two["environment"]] == [2, 2]
    assert set(two["device"]) == {f"CPU ({platform.machine()}, 2 threads)"}


def test_a_notebook_sets_the_number_too(slow_plan: Plan, tmp_path: Path) -> None:
    empty = replace(slow_plan, cells=())
    run(empty, tmp_path / "out", device="cpu", threads=3)
    assert torch.get_num_threads() == 3
    with pytest.raises(UserError, match="threads=0: give a whole number"):
        run(empty, tmp_path / "out", device="cpu", threads=0)
