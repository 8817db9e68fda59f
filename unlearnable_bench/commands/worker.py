"""`ubench worker`: one of the processes that an executor starts; not for users."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlearnable_bench.commands.damaged import damage_named
from unlearnable_bench.errors import UserError

if TYPE_CHECKING:
    from unlearnable_bench.running.work import Job


def worker(
    job_file: Annotated[Path | None, typer.Option("--job", metavar="FILE")] = None,
    task: int | None = None,
    tasks: int = 1,
    requeues: int = 0,
    follow: bool = False,
) -> None:
    """Compute cells of a job, whose JSON is in FILE or the first line of standard input."""
    if follow:
        _follow()
        return
    if job_file is None:
        _serve(task, tasks)
        return
    from unlearnable_bench.executors.slurm import requeued
    from unlearnable_bench.running.worker_process import compute, plan_of
    from unlearnable_bench.screen.terminal import Log, say_done, terminal

    job = _job(job_file.read_bytes(), str(job_file))
    out = terminal()
    with requeued(requeues), damage_named(), Log(out) as log:
        plan = plan_of(job)
        summary = compute(job, plan, log, partial(say_done, out), task=task, tasks=tasks)
        sys.stdout.write(f"{summary}\n")
        for failure in summary.failures:
            sys.stderr.write(f"ubench: {failure.cell.name}: {failure.reason}\n")
    if summary.failures:
        raise typer.Exit(2)


def _serve(task: int | None, tasks: int) -> None:
    """Compute cells, and send events to the process that started this one."""
    from unlearnable_bench.running.interruption import Interrupted
    from unlearnable_bench.running.worker_process import (
        compute,
        end_with_starter,
        open_channel,
        plan_of,
    )
    from unlearnable_bench.storage import damage

    channel = open_channel()
    channel.show_life()
    text = sys.stdin.buffer.readline()
    end_with_starter()
    job = _job(text, "standard input")
    try:
        with damage.collected() as damaged:
            plan = plan_of(job)
            compute(job, plan, channel, channel.done, channel=channel, task=task, tasks=tasks)
    except UserError as error:
        channel.send(refused=str(error))
        raise
    except Interrupted as error:
        # The line about it is that of the process that started this one.
        channel.send(saved=[*error.saved[1:]])
        raise typer.Exit(error.code) from None
    channel.send(ended=True, damaged=damaged)


def _follow() -> None:
    """Make a noise with the worker that started this process, whose input has a second line."""
    import msgspec

    from unlearnable_bench.running.shards import Seat
    from unlearnable_bench.running.worker import reason
    from unlearnable_bench.running.worker_process import end_with_starter, follow, open_channel

    channel = open_channel()
    lines = [sys.stdin.buffer.readline() for _ in range(2)]
    end_with_starter(at_once=True)
    try:
        follow(_job(lines[0], "standard input"), msgspec.json.decode(lines[1], type=Seat))
    except Exception as error:
        channel.send(error=reason(error))
        os._exit(2)  # a transfer that waits for the others could hold up a usual end


def _job(text: bytes, origin: str) -> "Job":
    from unlearnable_bench.running.work import Job

    try:
        job = Job.from_json(text)
        os.chdir(job.folder)
    except (ValueError, OSError) as error:
        raise UserError(f"{origin} is not a job of `ubench run`: {error}") from None
    return job
