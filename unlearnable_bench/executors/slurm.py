"""An array of Slurm jobs, one for each missing cell."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from msgspec import structs

from unlearnable_bench.errors import UserError
from unlearnable_bench.execution import Executor
from unlearnable_bench.options import option
from unlearnable_bench.running.interruption import SIGNALS, Interrupted
from unlearnable_bench.running.work import Job
from unlearnable_bench.storage.files import locked, write_text

if TYPE_CHECKING:
    from unlearnable_bench.running.work import Work

_MOST = 1000  # tasks of an array, which MaxArraySize allows by default
_WARNING = 120  # seconds before the time limit at which a task saves its state
_SHORTEST = 600  # seconds of a time limit
# Minutes, minutes:seconds, hours:minutes:seconds, or days-hours with the same rest.
_TIME = re.compile(r"(?:(\d+)-(\d+)(?::(\d+)(?::(\d+))?)?)|(?:(?:(\d+):)?(\d+):(\d+))|(\d+)")
_PATIENCE = 120  # seconds for a command of Slurm, whose controller may be slow


@dataclass(frozen=True, kw_only=True)
class Slurm(Executor):
    """An array of Slurm jobs, requeued on preemption and time limits."""

    remote: ClassVar[bool] = True
    detached: ClassVar[bool] = True

    gpus: int = option(1, "number of GPUs of a task, of which it uses one; 0: CPU", minimum=0)
    cpus: int = option(4, "number of CPU cores of a task", minimum=1)
    time: str = option("04:00:00", "time limit of a task, after which it resumes in the queue")
    memory: str | None = option(None, "memory of a task, e.g. 32G; none: Slurm's default")
    partition: str | None = option(None, "partition; none: Slurm's default")
    account: str | None = option(None, "account that is charged; none: Slurm's default")
    qos: str | None = option(None, "quality of service; none: Slurm's default")
    at_once: int | None = option(None, "largest number of tasks at a time", minimum=1)
    sbatch: str = option("", "further options of sbatch, e.g. --constraint=h100 --exclusive")
    setup: str = option("", "shell command before a task, e.g. module load cuda")
    requeues: int = option(100, "number of times that a task resumes after its limit", minimum=0)

    def worker_device(self) -> str:
        """Return `cuda` if a task has a GPU, otherwise `cpu`."""
        return "cuda" if self.gpus else "cpu"

    def check(self) -> None:
        """Refuse a time limit, a memory or options of sbatch that are none."""
        found = _TIME.fullmatch(self.time)
        if not found:
            raise UserError(
                f"slurm.time={self.time} is no time limit of Slurm; write hours:minutes:seconds, "
                "such as 04:00:00, or days-hours, such as 1-12"
            )
        if _seconds(found) < _SHORTEST:
            raise UserError(
                f"slurm.time={self.time}: a task saves its state {_WARNING} seconds before its "
                f"limit; give at least {_SHORTEST // 60} minutes"
            )
        if self.memory is not None and not re.fullmatch(r"\d+[KMGT]?", self.memory):
            raise UserError(f"slurm.memory={self.memory} is no memory; write it as 32G or 500M")
        try:
            shlex.split(self.sbatch)
        except ValueError as error:
            raise UserError(f"slurm.sbatch={self.sbatch}: {error}; close the quote") from None

    def described(self, device: str) -> str:
        """Return what a task gets."""
        where = f"partition {self.partition}" if self.partition else "the default partition"
        gpus = f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}, " if self.gpus else ""
        return f"Slurm, {where}: {gpus}{self.cpus} cores and {self.time} per cell"

    def dry_run(self, job: Job) -> str:
        """Return the batch script."""
        return f"\n{self.script(job, Path(job.out) / 'jobs' / 'ID')}"

    def script(self, job: Job, folder: Path) -> str:
        """Return the batch script of a job.

        Args:
            job: the job; its first cell is that of the first task.
            folder: where the job's file and the tasks' output are.
        """
        tasks = tasks_of(len(job.cells))
        at_once = f"%{self.at_once}" if self.at_once else ""
        directives = {
            "job-name": _name(job),
            "array": f"0-{tasks - 1}{at_once}",
            "time": self.time,
            "cpus-per-task": self.cpus,
            "gres": f"gpu:{self.gpus}" if self.gpus else None,
            "mem": self.memory,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "requeue": "",
            "signal": f"B:USR1@{_WARNING}",
            "open-mode": "append",
            "chdir": job.folder,
            "output": folder / "%a.log",
        }
        lines = [
            f"#SBATCH --{name}{f'={shlex.quote(str(value))}' if value != '' else ''}"
            for name, value in directives.items()
            if value is not None
        ]
        if self.sbatch:
            lines.append(f"#SBATCH {self.sbatch}")
        command = [sys.executable, "-P", "-m", "unlearnable_bench", "worker"]
        command += ["--job", str(folder / "job.json"), "--tasks", str(tasks)]
        command += ["--requeues", str(self.requeues)]
        return "\n".join([
            "#!/bin/bash",
            *lines,
            "",
            f"# {len(job.cells)} cells. `exec`: Slurm signals the shell of a batch script only.",
            *([self.setup] if self.setup else []),
            f"exec {shlex.join(command)} --task $SLURM_ARRAY_TASK_ID",
            "",
        ])  # fmt: skip

    def run(self, work: "Work") -> None:
        """Submit the missing cells that are not in the queue already."""
        if not shutil.which("sbatch"):
            raise UserError(
                "no sbatch here; run on a machine that submits to Slurm, or add --dry-run"
            )
        jobs = work.folder.path / "jobs"
        # Another submission of the same plan waits, and then finds the cells in the queue.
        with locked(jobs / "submit.lock", wait=True, what="another submission"):
            queued = queued_cells(jobs)
            cells = [key for key in work.job.cells if key not in queued]
            if len(cells) < len(work.job.cells):
                number = len(work.job.cells) - len(cells)
                work.screen.say(f"{number} of {len(work.job.cells)} missing cells are in the queue")
            if not cells:
                return
            job = structs.replace(work.job, cells=cells)
            folder = Path(job.out) / "jobs" / job.id
            folder.mkdir()
            write_text(folder / "job.json", job.to_json())
            write_text(folder / "job.sh", self.script(job, folder))
            array = _slurm("sbatch", "--parsable", str(folder / "job.sh")).partition(";")[0].strip()
        work.screen.say(
            f"submitted array {array}: {len(cells)} cells, output in {folder}; see `squeue --job "
            f"{array}`, cancel with `scancel {array}`; the same command prints the tables and "
            "submits what is missing then"
        )


def tasks_of(cells: int) -> int:
    """Return the number of tasks of an array, at most 1,000: each then has several cells."""
    return ceil(cells / ceil(cells / _MOST))


def queued_cells(jobs: Path) -> set[str]:
    """Return the keys of the cells that wait or run in Slurm's queue.

    Args:
        jobs: the folder with a folder for each submission.

    Raises:
        UserError: Slurm does not answer.
    """
    submitted = {}
    for path in jobs.glob("*/job.json"):
        # A damaged one: its cells are submitted again, and still computed once.
        with suppress(OSError, ValueError):
            job = Job.from_json(path.read_bytes())
            submitted[_name(job)] = job.cells
    if not submitted:
        return set()
    names = f"--name={','.join(submitted)}"
    found: set[str] = set()
    for line in _slurm("squeue", "--noheader", "--array", "--format=%j %K", names).splitlines():
        name, _, task = line.strip().partition(" ")
        cells = submitted[name]
        found.update(cells[int(task) :: tasks_of(len(cells))])
    return found


def _name(job: Job) -> str:
    """Return the name of a job in the queue, by which a later submission knows its cells."""
    return f"ubench-{job.id}"


@contextmanager
def requeued(requeues: int) -> Iterator[None]:
    """Put this task into the queue again if Slurm announces its time limit by SIGUSR1.

    Slurm itself requeues a task that it preempts or whose node fails.

    Args:
        requeues: number of times that a task is requeued.
    """
    try:
        yield
    except Interrupted as error:
        # Not SLURM_JOB_ID: that of the last task is the array's, which would requeue all tasks.
        parts = [os.environ.get(f"SLURM_ARRAY_{part}_ID", "") for part in ("JOB", "TASK")]
        again = int(os.environ.get("SLURM_RESTART_COUNT", "0")) < requeues
        if error.code == 128 + signal.SIGUSR1 and all(parts) and again:
            for each in SIGNALS:  # by which Slurm ends a task that is requeued
                signal.signal(each, signal.SIG_IGN)
            _slurm("scontrol", "requeue", "_".join(parts))
        raise


def _seconds(time: re.Match[str]) -> int:
    """Return a time limit in seconds."""
    days, hours, minutes, seconds, h, m, s, only = (int(part or 0) for part in time.groups())
    return 86400 * days + 3600 * (hours + h) + 60 * (minutes + m + only) + seconds + s


def _slurm(*command: str) -> str:
    """Return what a command of Slurm prints.

    Raises:
        UserError: it fails.
    """
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{shlex.join(command)}: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(
            f"{shlex.join(command)}: {lines[-1].strip()}; run this on a machine that submits to "
            "Slurm, or without --executor slurm"
        )
    return done.stdout
