"""`--executor slurm`, with a real Slurm of one node."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import cycle, islice, pairwise
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from commands import Command, Result, run_tiny
from faults.world import ALL
from held import held
from helpers import accuracies
from processes import FORKSERVER, finish
from slurm_cluster import Cluster, missing_programs, started, submit, wait_for

from unlearnable_bench import load_records
from unlearnable_bench.errors import UserError
from unlearnable_bench.executors.slurm import Slurm, tasks_of
from unlearnable_bench.planning import registry

HELD = held(1000, "if", "os.environ.get('SLURM_ARRAY_TASK_ID')")
ROUNDS = 10 if ALL else 1
FAULTS = 4 if ALL else 2  # of a round
KINDS = {
    "SIGKILL": ("scancel", "--batch", "--signal=KILL"),
    "SIGTERM, requeued": ("scontrol", "requeue"),
    "SIGUSR1": ("scancel", "--batch", "--signal=USR1"),
    "cancelled": ("scancel",),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = missing_programs()
    if missing and not os.environ.get("UBENCH_NEEDS_SLURM"):
        pytest.skip(f"Slurm is not installed (apt install slurm-wlm munge): {missing}")
    assert not missing
    with started(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def words(*more: str) -> tuple[object, ...]:
    command = [word for word in run_tiny(*more) if word not in ("--device", "cpu")]
    return (
        *command, "--executor", "slurm", "--set", "slurm.gpus=0", "--set", "slurm.cpus=1",
    )  # fmt: skip


def steps() -> list[str]:
    path = Path("steps")
    return path.read_text().splitlines() if path.exists() else []


def test_a_plan_is_finished_though_tasks_are_cancelled_requeued_and_the_node_is_drained(
    cluster: Cluster, ubench: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    (workplace / "held.py").write_text(HELD)
    command = words("--methods", "held,random", "--no-clean", "--seeds", "0-1")
    command += ("--plugin", "held.py")

    def submit() -> Result:
        for kind in registry.REGISTRIES.values():
            kind._from_files.clear()  # as in a new process
        return ubench(*command)

    first = submit()
    assert (first.code, first.err) == (0, "")
    assert "submitted array 1: 4 cells, output in " in first.out
    second = submit()
    assert "4 of 4 missing cells are in the queue\n" in second.out
    assert "submitted" not in second.out
    assert sorted(cluster.tasks()) == ["1_0", "1_1", "1_2", "1_3"]

    # Cells whose attack does not report its cost are the first.
    wait_for(lambda: len({line.split()[0] for line in steps()}) == 2, "two tasks")
    cluster.call("scancel", "1_0")
    wait_for(lambda: "1_0" not in cluster.tasks(), "the end of the cancelled task")
    cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    # What Slurm sends before a time limit: the task saves its state and goes back to the queue.
    cluster.call("scancel", "--batch", "--signal=USR1", "1_1")
    wait_for(lambda: cluster.tasks().get("1_1") == "PENDING", "the requeued task")
    before = len(steps())
    cluster.call("scontrol", "update", "nodename=n1", "state=resume")
    wait_for(lambda: len(steps()) > before, "the task's second run")
    cluster.call("scontrol", "requeue", "1_1")  # as a preemption does
    wait_for(lambda: cluster.tasks().get("1_1") == "PENDING", "the preempted task")
    Path("release").touch()
    wait_for(lambda: not cluster.tasks(), "an empty queue")

    again = submit()
    assert "results   out (3 of 4 already finished)" in again.out
    assert "submitted array" in again.out
    wait_for(lambda: not cluster.tasks(), "an empty queue")
    last = submit()
    assert (last.code, last.err) == (0, "")
    assert "0 cells computed, 4 reused" in last.out
    frame = load_records(workplace / "out")
    assert sorted(frame["attack"]) == ["held", "held", "random", "random"]
    # Each step was computed once: a task that resumes begins after the last one.
    made = Counter(tuple(line.split()[:2]) for line in steps())
    assert {*made.values()} == {1}
    assert len(made) == 2000
    logs = "".join(path.read_text() for path in workplace.glob("out/jobs/*/*.log"))
    assert "interrupted by SIGUSR1; 0 of 1 cell finished; saved: steps, " in logs
    assert "Traceback" not in logs


def test_tasks_that_are_ended_at_random_moments_lose_nothing(
    cluster: Cluster,
    ubench: Command,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    (workplace / "held.py").write_text(HELD)
    methods = ("--methods", "held", "--no-clean", "--seeds", "0-1")
    command = words(*methods)

    def submit(command: tuple[object, ...], out: str) -> Result:
        for kind in registry.REGISTRIES.values():
            kind._from_files.clear()  # as in a new process
        result = ubench(*command, "--plugin", "held.py", "--out", out)
        assert (result.code, result.err) == (0, "")
        return result

    Path("release").touch()
    submit(run_tiny(*methods), "expected")
    draw, kinds = random.Random(0), [*islice(cycle(KINDS), ROUNDS * FAULTS)]
    draw.shuffle(kinds)
    for number in range(ROUNDS):
        out = f"out-{number}"
        Path("steps").unlink()
        Path("release").unlink()
        submit(command, out)
        injected = kinds[number * FAULTS : (number + 1) * FAULTS]
        for kind in injected:
            inject(cluster, draw, kind, partial(submit, command, out))
        Path("release").touch()
        for _ in range(3):
            wait_for(lambda: not cluster.tasks(), "an empty queue")
            if "0 cells computed, 2 reused" in submit(command, out).out:
                break
        assert accuracies(workplace / out) == accuracies(workplace / "expected")
        assert len(accuracies(workplace / out)) == 2
        # Only a task that was killed has lost steps, those since its last checkpoint.
        made = [tuple(map(int, line.split()[:2])) for line in steps()]
        for seed in (0, 1):
            own = [step for one, step in made if one == seed]
            assert sum(b <= a for a, b in pairwise(own)) <= injected.count("SIGKILL")
    record_property("faults", ["tasks of Slurm", len(kinds), len(kinds)])


def inject(cluster: Cluster, draw: random.Random, kind: str, submit: Callable[[], object]) -> None:
    """End a running task at a random moment."""
    deadline = time.monotonic() + 120
    time.sleep(draw.uniform(0, 4))
    while True:
        assert time.monotonic() < deadline, f"no task runs: {cluster.tasks()}"
        if not cluster.tasks():
            submit()
        running = [name for name, state in cluster.tasks().items() if state == "RUNNING"]
        # One that ends at this moment refuses.
        with suppress(AssertionError):
            cluster.call(*KINDS[kind], draw.choice(running or [""]))
            return
        time.sleep(0.3)


def test_submissions_at_once_and_killed_ones_submit_each_cell_once(
    cluster: Cluster, workplace: Path
) -> None:
    cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    arguments = tuple(map(str, words("--methods", "random", "--seeds", "0-2")))
    draw = random.Random(0)

    def start() -> ForkServerProcess:
        process = FORKSERVER.Process(target=submit, args=(cluster.conf, workplace, arguments))
        process.start()
        return process

    for _ in range(6):
        victim = start()
        time.sleep(draw.uniform(0, 3))
        victim.kill()
        victim.join()
    assert finish(start(), start()) == [0, 0]
    assert len(cluster.tasks()) == 6  # clean and random, three seeds
    assert {*cluster.tasks().values()} == {"PENDING"}
    for task in cluster.tasks():
        cluster.call("scancel", task)
    assert not cluster.tasks()
    # Cancelled cells are missing, and are submitted again.
    assert finish(start()) == [0]
    assert len(cluster.tasks()) == 6
    cluster.call("scontrol", "update", "nodename=n1", "state=resume")


def test_a_dry_run_prints_the_batch_script_and_submits_nothing(
    ubench: Command, workplace: Path
) -> None:
    settings = ("time=1-00:00:00", "partition=gpu", "at_once=2", "sbatch=--exclusive -C h100")
    more = [word for one in settings for word in ("--set", f"slurm.{one}")]
    result = ubench(*words("--methods", "random", "--dry-run", *more), "--set", "slurm.setup=date")
    assert result.code == 0
    assert not (workplace / "out").exists()
    script = result.out[result.out.index("#!/bin/bash") :].splitlines()
    assert "#SBATCH --array=0-1%2" in script
    assert "#SBATCH --time=1-00:00:00" in script
    assert "#SBATCH --partition=gpu" in script
    assert "#SBATCH --exclusive -C h100" in script
    assert "#SBATCH --requeue" in script
    assert "#SBATCH --signal=B:USR1@120" in script
    assert not any("--gres" in line for line in script)
    assert script[-2] == "date"
    assert script[-1].startswith("exec ")
    assert script[-1].endswith("--task $SLURM_ARRAY_TASK_ID")


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("time=abc", r"slurm\.time=abc is no time limit of Slurm; write hours:minutes:seconds"),
        ("time=00:01:00", r"120 seconds before its limit; give at least 10 minutes"),
        ("time=9", r"give at least 10 minutes"),
        ("memory=xx", r"slurm\.memory=xx is no memory; write it as 32G"),
        ("sbatch=--qos='x", r"slurm\.sbatch=--qos='x: No closing quotation"),
    ],
)
def test_options_that_slurm_would_refuse_are_refused(setting: str, line: str) -> None:
    name, _, value = setting.partition("=")
    executor = Slurm.configured({name: value}, owner="slurm")
    with pytest.raises(UserError, match=line):
        executor.check()


@pytest.mark.parametrize("time", ["10", "10:00", "00:10:00", "1-0", "0-1:30", "2-00:00:00"])
def test_the_time_limits_of_slurm_are_read(time: str) -> None:
    Slurm(time=time).check()


def test_gpus_of_a_task_are_asked_for_and_used(ubench: Command) -> None:
    command = words("--methods", "random", "--dry-run")[:-4]
    result = ubench(*command)
    assert "#SBATCH --gres=gpu:1\n" in result.out
    assert (
        "device    Slurm, the default partition: 1 GPU, 4 cores and 04:00:00 per cell" in result.out
    )


def test_an_export_is_refused_because_nothing_is_computed_before_it(
    refused: Callable[..., str],
) -> None:
    line = refused(*words("--methods", "random", "--export", "poisoned"))
    assert "--export does not fit --executor slurm" in line
    assert "use `ubench export` when the cells are finished" in line


def test_without_sbatch_a_submission_is_refused(
    ubench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    result = ubench(*words("--methods", "random"))
    assert result.code == 2
    assert "no sbatch here; run on a machine that submits to Slurm, or add --dry-run" in result.err


@pytest.mark.parametrize(
    ("cells", "tasks"), [(1, 1), (1000, 1000), (1001, 501), (2000, 1000), (5000, 1000)]
)
def test_an_array_has_at_most_a_thousand_tasks(cells: int, tasks: int) -> None:
    assert tasks_of(cells) == tasks
