"""Runs the cells of a plan that a results folder lacks, on one device.

Several processes may work on the same folder, e.g. one per GPU: a cell that another process
computes is postponed, then found finished, or computed if that process did not finish it.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch

from unlearnable_bench.harness.device import own_stream
from unlearnable_bench.harness.progress import Progress, Silent, Stoppable
from unlearnable_bench.planning.plan import Cell, Plan, Probe
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import (
    Robustness,
    has_robustness,
    write_robustness,
)
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.environment import use_fast_path
from unlearnable_bench.running.worker import Worker, reason, trace_of

OnDone = Callable[[Cell | Probe, Record | Robustness], None]

# A single small network leaves part of a GPU idle; more than two were measured to gain nothing.
_FASTEST_PACK = {"cuda": 2}


@dataclass(frozen=True)
class Failure:
    """A cell or probe that could not be finished, with the reason in one line."""

    cell: Cell | Probe
    reason: str


@dataclass(frozen=True)
class Summary:
    """The outcome of running a plan.

    Attributes:
        computed: number of cells and probes that this call finished.
        reused: number of those that the folder had or another process finished.
        failures: those that could not be finished, which does not affect the others.

    Examples:
        >>> from unlearnable_bench import Summary
        >>> print(Summary(computed=1, reused=2, failures=()))
        1 cell computed, 2 reused
    """

    computed: int
    reused: int
    failures: tuple[Failure, ...]

    def __str__(self) -> str:
        text = f"{self.computed} cell{'' if self.computed == 1 else 's'} computed"
        text = f"{text}, {self.reused} reused"
        return f"{text}, {len(self.failures)} failed" if self.failures else text


def execute(
    plan: Plan,
    folder: ResultsFolder,
    device: torch.device,
    progress: Progress | None = None,
    on_cell: OnDone = lambda _item, _result: None,
    pack: int | None = None,
) -> Summary:
    """Compute every missing cell and probe of a plan.

    Args:
        plan: the cells and probes.
        folder: results folder, read and written.
        device: the CPU or a GPU.
        progress: display of the loops' progress; None: not shown.
        on_cell: called with each finished cell and its record, or probe and its measurement.
        pack: number of cells computed at the same time, each in a thread and, on a GPU, on a
            stream of its own; None: the fastest number, two on a GPU and one on the CPU.

    Raises:
        UserError: a damaged file in the folder.
    """
    use_fast_path(device)
    # Reproducible results: no choice of algorithms by timing, no non-deterministic sums.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    missing = [item for item in plan.work if not is_done(folder, item)]
    pack = pack or _FASTEST_PACK.get(device.type, 1)
    pack = min(pack, max(1, len(missing)))
    workers = _Workers(folder, device, progress or Silent(), on_cell, pack)
    for wait in (False, True):  # first the free cells, then those that others did not finish
        missing = workers.run(missing, wait=wait)
    failures = tuple(workers.failures)
    return Summary(workers.computed, len(plan.work) - workers.computed - len(failures), failures)


def is_done(folder: ResultsFolder, item: Cell | Probe) -> bool:
    """Return whether a folder holds the result of a cell or a probe."""
    if isinstance(item, Probe):
        return has_robustness(folder.path, item.key)
    return folder.record(item.key) is not None


class _Workers:
    """Computes cells, one after another or several at the same time."""

    def __init__(
        self,
        folder: ResultsFolder,
        device: torch.device,
        progress: Progress,
        on_cell: OnDone,
        pack: int,
    ) -> None:
        self._folder, self._device, self._on_cell, self._pack = folder, device, on_cell, pack
        self._progress = Stoppable(progress)
        self._worker = partial(
            Worker,
            folder,
            device,
            self._progress,
            failed={},
            warned=set(),
            packed=pack,
        )
        self._mine = threading.local()
        self._lock = threading.Lock()
        self.computed = 0
        self.failures: list[Failure] = []

    def run(self, cells: list[Cell | Probe], *, wait: bool) -> list[Cell | Probe]:
        """Compute cells and probes; return those that another process computes."""
        self._wait = wait
        self._mine.worker = self._worker()  # of the main thread, which receives Ctrl-C
        if self._pack == 1:
            return [cell for cell in cells if not self._attempt(cell)]
        # Noise is not packed: it uses the whole device, and its generation time is a result.
        for poison in {cell.poison.key: cell.poison for cell in cells}.values():
            self._mine.worker.prepare(poison)
        self._numbers = itertools.count(1)
        with ThreadPoolExecutor(self._pack, initializer=self._start) as pool:
            try:  # around `submit` too: an interruption while threads start must stop them
                attempts = [pool.submit(self._attempt, cell) for cell in cells]
                return [
                    cell
                    for cell, attempt in zip(cells, attempts, strict=True)
                    if not attempt.result()
                ]
            except BaseException:
                self._progress.stop = True
                pool.shutdown(cancel_futures=True)
                raise

    def _start(self) -> None:
        """Start a thread of packed cells."""
        own_stream(self._device, next(self._numbers))
        self._mine.worker = self._worker()

    def _attempt(self, cell: Cell | Probe) -> bool:
        """Compute an item unless another process does; return whether it is finished or failed."""
        tick = self._progress.check
        with self._folder.claim(cell.key, wait=self._wait, tick=tick) as mine:
            if not mine:
                return False
            if is_done(self._folder, cell):
                return True
            try:
                result = self._finish(cell)
            except (Exception, SystemExit) as error:  # a failing cell must not stop the others
                failure = Failure(cell, reason(error))
                self.failures.append(failure)
                labels = cell.labels if isinstance(cell, Cell) else {}
                with suppress(OSError):  # e.g. a full disk, which may be the reason of the failure
                    self._folder.write_failure(cell.key, labels, failure.reason, trace_of(error))
                return True
            with suppress(OSError):
                self._folder.clear_failure(cell.key)
            self._folder.checkpoint(cell.key).unlink(missing_ok=True)
            with self._lock:
                self.computed += 1
                self._on_cell(cell, result)
        return True

    def _finish(self, item: Cell | Probe) -> Record | Robustness:
        """Compute an item and write its result."""
        if isinstance(item, Probe):
            measurement: Robustness = self._mine.worker.measure(item)
            write_robustness(self._folder.path, measurement)
            return measurement
        record: Record = self._mine.worker.compute(item)
        self._folder.write_record(record)
        return record
