"""A worker process: makes the plan of a job, and computes its cells until none is left."""

import faulthandler
import json
import os
import signal
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.group import Group
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Cell, Plan, Probe
from unlearnable_bench.planning.plan_file import arguments
from unlearnable_bench.planning.registry import load_plugin_file
from unlearnable_bench.results.presence import wait_for
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import Robustness
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.environment import pick_device, use_algorithms
from unlearnable_bench.running.executor import Failure, OnDone, Part, Summary, execute
from unlearnable_bench.running.restart import giving_up, restart_without
from unlearnable_bench.running.shards import Seat, Shards, joined, left
from unlearnable_bench.running.stall import Stall
from unlearnable_bench.running.threads import use_threads
from unlearnable_bench.running.work import Job, items_of
from unlearnable_bench.running.worker import Worker
from unlearnable_bench.stop import Stop

_PAUSE = 0.3  # seconds between two events of a loop
_BEAT = 1.0  # seconds between two signs of life


@dataclass
class Channel:
    """Events of a worker process, one JSON object per line, for the process that started it.

    Attributes:
        descriptor: of the pipe.
    """

    descriptor: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=count)

    def send(self, **event: Any) -> None:
        """Send an event, unless nobody reads any more."""
        text = json.dumps(event).encode() + b"\n"
        with self._lock:
            try:
                while text:
                    text = text[os.write(self.descriptor, text) :]
            except BrokenPipeError:
                return

    def show_life(self) -> None:
        """Send an event each second, until another thread keeps the interpreter for ever."""

        def beat() -> None:
            while True:
                self.send(beat=True)
                time.sleep(_BEAT)

        faulthandler.register(signal.SIGQUIT)  # prints all stacks, also when no Python code can run
        threading.Thread(target=beat, name="ubench beat", daemon=True).start()

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`, and send some of them."""
        number, due = next(self._numbers), 0.0
        try:
            for step in steps:
                now = time.monotonic()
                if now >= due:
                    due = now + _PAUSE
                    self.send(loop=number, label=label, total=total, step=step)
                yield step
        finally:
            self.send(loop=number)

    def begun(self, item: Cell | Probe) -> None:
        """Send that a cell or probe is begun."""
        self.send(begun=item.key)

    def failed(self, failure: Failure) -> None:
        """Send that a cell or probe failed."""
        self.send(failed=failure.cell.key, reason=failure.reason, trace=failure.trace)

    def done(self, item: Cell | Probe, _result: Record | Robustness) -> None:
        """Send that a cell or probe is finished."""
        self.send(done=item.key)


def open_channel() -> Channel:
    """Return the channel on standard output; what else is printed there goes to stderr."""
    channel = Channel(os.dup(1))
    os.dup2(2, 1)
    return channel


def end_with_starter(*, at_once: bool = False) -> None:
    """End this process, as SIGTERM does, once the process that started it has ended.

    It then closes the pipe that is this process's standard input.

    Args:
        at_once: end it also in the midst of a transfer, without saving anything.
    """

    def wait() -> None:
        while os.read(0, 1000):
            pass
        if at_once:
            os._exit(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="ubench starter", daemon=True).start()


def plan_of(job: Job) -> Plan:
    """Make the plan of a job.

    Raises:
        UserError: data, a plugin or a version differs from those of the process that made the
            job, so that its cells are not in the plan.
    """
    for path in job.plugins:
        load_plugin_file(Path(path))
    plan = make_plan(**arguments(job.options, "--"))
    lacking = {*job.cells} - {item.key for item in plan.work}
    if lacking:
        raise UserError(
            f"{len(lacking)} of {len(job.cells)} cells of this job are not in the plan made here: "
            "data, plugins or versions have changed since; run the command again"
        )
    return plan


def compute(
    job: Job,
    plan: Plan,
    progress: Progress,
    on_cell: OnDone,
    *,
    channel: Channel | None = None,
    task: int | None = None,
    tasks: int = 1,
) -> Summary:
    """Compute the cells of a job that no other worker computes.

    Args:
        job: the job.
        plan: its plan.
        progress: display of the loops' progress.
        on_cell: called with each finished cell and its record.
        channel: receives which cells are begun and which fail.
        task: number of this task of a batch job, whose own cells are `task`, `task + tasks` and so
            on; it computes others only while its own are held up. None: all cells.
        tasks: number of tasks.

    Raises:
        UserError: the folder or the device cannot be used.
        Interrupted: by a signal; the loops have written their state.
    """
    use_threads(job.threads)
    missing = items_of(plan, job.cells)
    own = missing if task is None else missing[task::tasks]
    shards = Shards(job.to_json(), job.shards) if job.shards else None
    part = Part(own, missing, job.id, shards=shards)
    if channel:
        part = replace(part, begun=channel.begun, failed=channel.failed)
    wait_for(Path(job.out))
    folder, device = ResultsFolder(Path(job.out)), pick_device(job.device or None)
    stall: Stall | None = None
    if job.stall:
        # The process that started this one replaces it; a task of a batch job does so itself.
        restart = _end if channel else restart_without
        lost = giving_up(plan, folder, restart, job.id)
        stall = Stall(job.stall[1], job.stall[0], lost, grace=min(60.0, job.stall[1]))
    return execute(
        plan,
        folder,
        device,
        progress,
        on_cell,
        job.pack,
        part,
        stall=stall,
        keep_learners=job.keep_learners,
    )


def follow(job: Job, seat: Seat) -> None:
    """Make the noise of a job together with the worker that started this process.

    Args:
        job: the job.
        seat: the noise, and the place of this process.

    Raises:
        UserError: the plan or the device differs from the worker's.
    """
    use_threads(job.threads)
    plan, device = plan_of(job), pick_device(job.device or None)
    poison = next(one.poison for one in plan.work if one.poison.key == seat.poison)
    use_algorithms(device)
    folder = ResultsFolder(Path(job.out))
    worker = Worker(folder, device, Silent(), Stop())
    joined(Path(seat.store), seat.rank, seat.size, device)
    worker.follow(poison, Group(seat.rank, seat.size, device))
    left(device, aborted=False)


def _end(_keys: Collection[str]) -> NoReturn:
    os._exit(1)  # other threads hang
