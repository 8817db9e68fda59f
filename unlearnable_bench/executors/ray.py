"""A task of Ray for each missing cell."""

import importlib.util
import json
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import structs

from unlearnable_bench.errors import UserError, one_line
from unlearnable_bench.execution import Executor
from unlearnable_bench.options import option

if TYPE_CHECKING:
    from unlearnable_bench.curation.exchange import Exchange
    from unlearnable_bench.running.executor import Summary
    from unlearnable_bench.running.work import Work

_LOOK = 0.2  # seconds between two looks at signals
_SENDING = 60.0  # seconds between two looks at what a task has written
_ENDING = 60.0  # seconds for the tasks of an interrupted run to save their state
_PATIENCE = 300.0  # seconds in which a task tries to send what it has computed
_PAUSE = 5.0  # seconds between two tries


class LostWorkerError(Exception):
    """The worker process of a task was lost, e.g. killed for lack of memory; Ray tries it again."""


@dataclass(frozen=True, kw_only=True)
class Ray(Executor):
    """A task of a Ray cluster for each cell, started again if its node is lost."""

    remote: ClassVar[bool] = True

    address: str | None = option(
        None, "address of a Ray cluster, e.g. 10.0.0.1:6379 or auto; none: one on this machine"
    )
    gpus: float = option(1.0, "GPUs of a task, e.g. 0.5 for two tasks on a GPU; 0: CPU", minimum=0)
    cpus: int = option(4, "number of CPU cores of a task", minimum=1)
    retries: int = option(3, "number of times that a lost task is started again", minimum=0)
    store: str | None = option(
        None,
        "URL through which tasks exchange results, e.g. s3://bucket/prefix; none: the results "
        "folder, which all nodes share",
    )

    def worker_device(self) -> str:
        """Return `cuda` if a task has a share of a GPU, otherwise `cpu`."""
        return "cuda" if self.gpus else "cpu"

    def check(self) -> None:
        """Refuse to go on without the package ray."""
        if importlib.util.find_spec("ray") is None:
            raise UserError(
                "--executor ray needs the package ray: pip install 'unlearnable-bench[ray]'"
            )
        if self.store:
            from unlearnable_bench.curation.exchange import Exchange  # noqa: PLC0415

            Exchange(self.store, Path(), ())

    def described(self, device: str) -> str:
        """Return what a task gets."""
        where = f"the cluster {self.address}" if self.address else "a cluster on this machine"
        gpus = f"{self.gpus:g} GPU, " if self.gpus else ""
        through = f", results through {self.store}" if self.store else ""
        return f"Ray, {where}: {gpus}{self.cpus} cores per cell{through}"

    def run(self, work: "Work") -> "Summary":
        """Compute the missing cells in tasks of the cluster, and wait for them."""
        from unlearnable_bench.curation.exchange import Exchange, keys_of  # noqa: PLC0415
        from unlearnable_bench.results.intervals import count  # noqa: PLC0415
        from unlearnable_bench.running import interruption  # noqa: PLC0415
        from unlearnable_bench.running.finished import is_done  # noqa: PLC0415
        from unlearnable_bench.running.tally import Tally  # noqa: PLC0415 - loads torch
        from unlearnable_bench.stop import Stop  # noqa: PLC0415

        job = structs.replace(work.job, threads=work.job.threads or self.cpus)
        if self.store:
            Exchange(self.store, work.folder.path, ()).check()
        tally, stop = Tally(work), Stop(holding=True)
        with interruption.postponed(stop) as saved, self._cluster(work) as ray:
            remote = ray.remote(
                num_gpus=self.gpus,
                num_cpus=self.cpus,
                max_retries=self.retries,
                retry_exceptions=[LostWorkerError],
            )(compute_cell)
            items = {item.key: item for item in work.plan.work}
            keys = {key: keys_of(items[key]) for key in job.cells if self.store}
            if self.store:
                everything = Exchange(self.store, work.folder.path, [*chain(*keys.values())])
                everything.collect()
                everything.send()
            waiting = [key for key in job.cells if not is_done(work.folder, items[key])]
            tasks: dict[Any, str] = {}
            noises = {key: items[key].poison.key for key in job.cells}
            lacking = {noise for noise in noises.values() if not work.folder.has_poison(noise)}
            try:
                while (tasks or waiting) and not stop.requested and not tally.refused:
                    awaited = {noises[key] for key in tasks.values()} & lacking
                    free = startable(waiting, noises, lacking, awaited) if self.store else waiting
                    for key in [*free]:
                        waiting.remove(key)
                        number = job.cells.index(key)
                        part = (number, len(job.cells)) if not self.store else (0, 1)
                        own = structs.replace(job, cells=[key]) if self.store else job
                        task = remote.remote(own.to_json(), *part, self.store, keys.get(key, []))
                        tasks[task] = key
                    for done in ray.wait([*tasks], timeout=_LOOK)[0]:
                        key = tasks.pop(done)
                        lacking.discard(noises[key])
                        collect = (
                            Exchange(self.store, work.folder.path, keys[key]).collect
                            if self.store
                            else lambda: None
                        )
                        _take(ray, done, key, tally, collect)
            finally:
                for task in tasks:
                    ray.cancel(task)
                if tasks:
                    ray.wait([*tasks], num_returns=len(tasks), timeout=_ENDING)
                done = len(work.plan.work) - len(tally.unfinished)
                saved.append(f"{done} of {count(len(work.plan.work), 'cell')} finished")
        if tally.refused:
            raise UserError(tally.refused)
        return tally.summary()

    @contextmanager
    def _cluster(self, work: "Work") -> Iterator[Any]:
        """Yield Ray, connected to the cluster."""
        try:
            import ray  # noqa: PLC0415 - an extra
        except ImportError as error:
            install = "pip install 'unlearnable-bench[ray]'"
            raise UserError(f"--executor ray needs the package ray ({error}): {install}") from None
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        where: dict[str, Any] = {"address": self.address}
        if not self.address:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            where = {"include_dashboard": False}
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.WARNING)
        except (Exception, SystemExit) as error:
            place = f"--ray-address {self.address}" if self.address else "ray"
            raise UserError(f"{place}: {one_line(error)}") from error
        finally:
            for number, handler in before.items():  # Ray replaces that of SIGTERM
                signal.signal(number, handler)
        try:
            for name, needed in (("GPU", self.gpus), ("CPU", self.cpus)):
                found = max((node["Resources"].get(name, 0) for node in ray.nodes()), default=0)
                if found < needed:
                    work.screen.warn(
                        f"no node of this Ray cluster has {needed:g} {name} ({found:g} at most): "
                        f"tasks wait for one, or set ray.{name.lower()}s lower"
                    )
            yield ray
        finally:
            ray.shutdown()


def startable(
    cells: Sequence[str], noises: Mapping[str, str], lacking: set[str], awaited: set[str]
) -> list[str]:
    """Return the cells that need not wait until another one has made their noise.

    Without a shared folder, tasks have no locks by which they would wait themselves.

    Args:
        cells: keys of the cells, in their order.
        noises: keys of their noises.
        lacking: noises that are not made yet.
        awaited: those that a task makes now.
    """
    taken, found = {*awaited}, []
    for key in cells:
        if noises[key] not in taken:
            found.append(key)
            taken |= {noises[key]} & lacking
    return found


def _take(ray: Any, task: Any, key: str, tally: Any, collect: Callable[[], None]) -> None:
    """Take the outcome of a task."""
    try:
        events = ray.get(task)
        collect()
        for event in events:
            tally.take(event)
    except (ray.exceptions.RayError, Exception) as error:
        cause = getattr(error, "cause", None) or error  # the text of a RayTaskError is a traceback
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        lost = "" if isinstance(cause, UserError) else "its Ray task was lost: "
        tally.lost(key, f"{lost}{lines[0]}")


def compute_cell(
    text: str, task: int, tasks: int, store: str | None = None, keys: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Compute the cell of a task in a process of its own; return the process's events.

    Args:
        text: the job.
        task: number of the task.
        tasks: number of tasks.
        store: URL through which results are exchanged; None: in the job's folder.
        keys: keys of the files that are exchanged.
    """
    if store is None:
        return _computed(text, task, tasks)
    from unlearnable_bench.curation.exchange import Exchange, private_folder  # noqa: PLC0415
    from unlearnable_bench.running.work import Job  # noqa: PLC0415

    with private_folder() as place:
        exchange = Exchange(store, Path(place), keys)
        with _retried():
            exchange.fetch()
        job = structs.replace(Job.from_json(text), out=place)
        try:
            return _computed(job.to_json(), task, tasks, exchange)
        finally:
            with _retried():
                _send(exchange)


@contextmanager
def _retried() -> Iterator[None]:
    """Let Ray start a task again whose transfers fail."""
    try:
        yield
    except Exception as error:
        raise LostWorkerError(one_line(error)) from error


def _send(exchange: "Exchange") -> None:
    """Send what a task has computed, which would be lost if the server is down just then."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return exchange.send()
        except Exception:
            if time.monotonic() >= end:
                raise
            time.sleep(_PAUSE)


def _computed(
    text: str, task: int, tasks: int, exchange: "Exchange | None" = None
) -> list[dict[str, Any]]:
    from unlearnable_bench.running.processes import how_it_ended, worker_command  # noqa: PLC0415

    process = subprocess.Popen(  # noqa: S603 - this very program
        worker_command("--task", str(task), "--tasks", str(tasks)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    with suppress(BrokenPipeError):
        process.stdin.write(text.encode() + b"\n")
        process.stdin.flush()
    found, part, due = b"", b" ", time.monotonic() + _SENDING
    try:
        # Not a blocking read, which the cancellation of a task would not interrupt, and which would
        # wait for processes that the worker has started.
        while part and (process.poll() is None or select.select([process.stdout], [], [], 0)[0]):
            if select.select([process.stdout], [], [], _LOOK)[0]:
                part = os.read(process.stdout.fileno(), 1 << 16)
                found += part
            if exchange and time.monotonic() >= due:
                with suppress(Exception):  # it is tried again, at the latest at the end
                    exchange.send()
                due = time.monotonic() + _SENDING
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()  # it saves its state
            process.wait()
    events = [json.loads(line) for line in found.splitlines()]
    if not {"ended", "refused"} & {name for event in events for name in event}:
        raise LostWorkerError(f"worker process {how_it_ended(process.returncode)}")
    return [event for event in events if "loop" not in event]
