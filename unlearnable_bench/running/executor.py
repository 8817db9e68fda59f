"""Runs the cells of a plan that a results folder lacks, on one device.

Several processes may work on the same folder, e.g. one per GPU: a cell that another process
computes is postponed, then found finished, or computed if that process did not finish it.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import torch

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.device import own_stream
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.planning.plan import Cell, Plan, Probe
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import (
    Robustness,
    has_robustness,
    settle_robustness,
    write_robustness,
)
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import interruption
from unlearnable_bench.running.environment import use_fast_path
from unlearnable_bench.running.worker import Worker, reason
from unlearnable_bench.stop import Stop, StoppedError
from unlearnable_bench.storage.disk import DiskError
from unlearnable_bench.traces import has_trace, trace_of

OnDone = Callable[[Cell | Probe, Record | Robustness], None]

# A single small network leaves part of a GPU idle; more than two were measured to gain nothing.
_FASTEST_PACK = {"cuda": 2}


@dataclass(frozen=True)
class Failure:
    """A cell or probe that could not be finished.

    Attributes:
        cell: the cell or probe.
        reason: the reason in one line.
        trace: the traceback if it matters, as of an exception in a plugin's code; or empty.
    """

    cell: Cell | Probe
    reason: str
    trace: str = ""


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
        UserError: a name that a record cannot hold.
        FolderGoneError: the folder was moved or removed meanwhile.
        DiskError: the disk is full.
        Interrupted: Ctrl-C, or a signal of the command; the loops have written their state.
    """
    check_names(plan)
    use_fast_path(device)
    # Reproducible results: no choice of algorithms by timing, no non-deterministic sums.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    missing = [item for item in plan.work if not is_done(folder, item)]
    pack = pack or _FASTEST_PACK.get(device.type, 1)
    pack = min(pack, max(1, len(missing)))
    workers = _Workers(folder, device, progress or Silent(), on_cell, pack)
    workers.total, workers.done = len(plan.work), len(plan.work) - len(missing)
    with interruption.postponed(workers.stop) as saved:
        try:
            for wait in (False, True):  # the free cells, then those that others did not finish
                missing = workers.run(missing, wait=wait)
        except DiskError as error:
            raise DiskError(f"{error} ({workers.finished})") from error
        finally:
            saved += [workers.finished, *workers.saved]
    failures = tuple(workers.failures)
    return Summary(workers.computed, len(plan.work) - workers.computed - len(failures), failures)


def check_names(plan: Plan) -> None:
    """Refuse names with bytes that are not text, e.g. of a file, before anything is computed.

    Raises:
        UserError: names the data set, attack, learner or defense.
    """
    names = {cell.poison.attack.label: "attack" for cell in plan.cells}
    names |= {cell.learner.label: "learner" for cell in plan.cells}
    names |= {cell.defense.label: "defense" for cell in plan.cells}
    for name, kind in (names | {plan.data.name: "data set"}).items():
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"the name of {kind} {name!r} is not UTF-8 text, as records need; rename its file"
            ) from error


def is_done(folder: ResultsFolder, item: Cell | Probe) -> bool:
    """Return whether a folder holds the result of a cell or a probe, whole."""
    if isinstance(item, Probe):
        return has_robustness(folder.path, item.key)
    try:
        return folder.record(item.key) is not None
    except UserError:  # damaged
        return False


def _settle(folder: ResultsFolder, item: Cell | Probe) -> bool:
    """Return the same under the claim, after a damaged result was set aside."""
    if isinstance(item, Probe):
        return settle_robustness(folder.path, item.key)
    return folder.settle(item.key)


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
        self.stop = Stop()
        self.saved: list[str] = []
        self._worker = partial(
            Worker,
            folder,
            device,
            progress,
            self.stop,
            failed={},
            warned=set(),
            packed=pack,
        )
        self._mine = threading.local()
        self._lock = threading.Lock()
        self.total = self.done = self.computed = 0
        self.failures: list[Failure] = []

    @property
    def finished(self) -> str:
        """How many cells are finished, for messages."""
        return f"{self.done + self.computed} of {count(self.total, 'cell')} finished"

    def run(self, cells: list[Cell | Probe], *, wait: bool) -> list[Cell | Probe]:
        """Compute cells and probes; return those that another process computes."""
        self._wait = wait
        self._mine.worker = self._worker()  # of the main thread, which receives Ctrl-C
        if self._pack == 1:
            return [cell for cell in cells if not self._attempt(cell)]
        # Noise is not packed: it uses the whole device, and its generation time is a result.
        for poison in {cell.poison.key: cell.poison for cell in cells}.values():
            with self._saved_noted(poison.name):
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
                self.stop.requested = True
                pool.shutdown(cancel_futures=True)
                raise

    def _start(self) -> None:
        """Start a thread of packed cells."""
        own_stream(self._device, next(self._numbers))
        self._mine.worker = self._worker()

    def _attempt(self, cell: Cell | Probe) -> bool:
        """Compute an item unless another process does; return whether it is finished or failed."""
        self._folder.check_present()
        self.stop.check()
        tick = self.stop.check
        with ExitStack() as stack:
            stack.enter_context(self._saved_noted(cell.name))
            stack.enter_context(self.stop.storing())
            try:
                claim = self._folder.claim(cell.key, wait=self._wait, tick=tick, what=cell.name)
                if not stack.enter_context(claim):
                    return False
                if _settle(self._folder, cell):
                    return True
                result = self._finish(cell)
            except DiskError:  # all other cells would fail alike
                raise
            except (Exception, SystemExit) as error:  # a failing cell must not stop the others
                self._folder.check_present()
                trace = trace_of(error)
                failure = Failure(cell, reason(error), trace if has_trace(error) else "")
                self.failures.append(failure)
                labels = cell.labels if isinstance(cell, Cell) else {}
                with suppress(OSError, DiskError):
                    self._folder.write_failure(cell.key, labels, failure.reason, trace)
                return True
            with suppress(OSError):
                self._folder.clear_failure(cell.key)
                self._folder.checkpoint(cell.key).unlink(missing_ok=True)
            with self._lock:
                self.computed += 1
                self._on_cell(cell, result)
        return True

    @contextmanager
    def _saved_noted(self, name: str) -> Iterator[None]:
        """Note what a cell or poison saves when its work is stopped."""
        try:
            yield
        except StoppedError as stopped:
            if str(stopped):
                self.saved.append(f"{stopped} ({name})")
            raise

    def _finish(self, item: Cell | Probe) -> Record | Robustness:
        """Compute an item and write its result."""
        if isinstance(item, Probe):
            measurement: Robustness = self._mine.worker.measure(item)
            write_robustness(self._folder.path, measurement)
            return measurement
        record: Record = self._mine.worker.compute(item)
        self._folder.write_record(record)
        return record
