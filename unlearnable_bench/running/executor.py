"""Runs the cells of a plan that a results folder lacks, on one device.

Several processes may work on the same folder, e.g. one per GPU: a cell that another process
computes, or whose noise it makes, is postponed, then found finished, or computed if that process
did not finish it.
"""

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import torch

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.device import one_run_on, own_stream
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.planning.checks import check_names
from unlearnable_bench.planning.plan import Cell, Plan, Probe
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.presence import (
    FolderGoneError,
    FolderReturnedError,
    outlasting,
)
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS, Robustness
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import interruption
from unlearnable_bench.running.company import Company
from unlearnable_bench.running.environment import is_usable, plain_torch, use_algorithms
from unlearnable_bench.running.finished import failed_in, is_done, settle
from unlearnable_bench.running.learners import warn_of_lacking
from unlearnable_bench.running.restart import given_up
from unlearnable_bench.running.shards import Shards
from unlearnable_bench.running.stall import Stall, Watch
from unlearnable_bench.running.worker import Worker, reason
from unlearnable_bench.stop import Stop, StoppedError
from unlearnable_bench.storage.disk import DiskError
from unlearnable_bench.storage.locks import is_siblings, owner
from unlearnable_bench.traces import has_trace, trace_of

_LOG = logging.getLogger(__name__)

OnDone = Callable[[Cell | Probe, Record | Robustness], None]

_PAUSE = 0.2  # seconds between two looks at what others compute
_PATIENCE = 10  # looks before the owner is named
_RETURNS = 5  # times that the folder may disappear during a cell

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


@dataclass(frozen=True)
class Part:
    """The part of a plan that one of several worker processes computes.

    Attributes:
        own: the cells and probes after which it ends, in the order in which it computes them.
        spare: those that it computes while others compute its own ones or make their noise.
        job: identifies the run of all workers: a cell that failed in it is not tried again.
        begun: called with each cell or probe that is begun.
        failed: called with each that could not be finished.
        shards: processes that divide its noise generations among GPUs.
    """

    own: Sequence[Cell | Probe]
    spare: Sequence[Cell | Probe] = ()
    job: str = ""
    begun: Callable[[Cell | Probe], None] = lambda _item: None
    failed: Callable[[Failure], None] = lambda _failure: None
    shards: Shards | None = None


@plain_torch()
def execute(
    plan: Plan,
    folder: ResultsFolder,
    device: torch.device,
    progress: Progress | None = None,
    on_cell: OnDone = lambda _item, _result: None,
    pack: int | None = None,
    part: Part | None = None,
    *,
    only: Collection[str] | None = None,
    stall: Stall | None = None,
    keep_learners: bool = False,
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
        part: the part to compute; None: all of the plan, in its order.
        only: keys of the cells and probes to compute; None: all.
        stall: when and how to end cells that hang; None: never.
        keep_learners: write each trained learner to the folder. Finished cells that have none are
            not computed again; a warning counts them.

    Raises:
        UserError: a name that a record cannot hold.
        FolderGoneError: the folder disappeared meanwhile, and is not back after 5 minutes.
        DiskError: the disk is full.
        Interrupted: Ctrl-C, or a signal of the command; the loops have written their state.
    """
    check_names(plan)
    use_algorithms(device)
    part = part or Part(plan.work)
    wanted = [item for item in part.own if only is None or item.key in only]
    left_out = [item for item in part.own if only is not None and item.key not in only]
    missing = [item for item in wanted if not is_done(folder, item)]
    lost = [item for item in missing if item.key in given_up()]
    missing = [item for item in missing if item not in lost]
    if keep_learners:
        warn_of_lacking(folder, plan, {item.key for item in missing})
    pack = pack or fastest_pack(device.type)
    pack = min(pack, max(1, len(missing)))
    watch = Watch(stall)
    workers = _Workers(
        folder, device, progress or Silent(), on_cell, pack, part, watch, keep_learners
    )
    workers.failures += [_failure_of(folder, item) for item in lost]
    workers.total, workers.done = len(part.own), len(part.own) - len(missing)
    with one_run_on(device), watch, interruption.postponed(workers.stop) as saved:
        try:
            workers.finish(missing, part.spare)
        except DiskError as error:
            raise DiskError(f"{error} ({workers.finished})") from error
        finally:
            saved += [workers.finished, *workers.saved]
    failures = tuple(workers.failures)
    asked = len(part.own) - sum(not is_done(folder, item) for item in left_out)
    reused = max(0, asked - workers.computed - len(failures))
    return Summary(workers.computed, reused, failures)


def _failure_of(folder: ResultsFolder, item: Cell | Probe) -> Failure:
    """Return the stored failure of an item that an earlier process of this command gave up."""
    found = folder.failures(lenient=True).get(item.key, {})
    reason = str(found.get("reason", "it ended the process that computed it"))
    return Failure(item, reason, str(found.get("traceback", "")))


def fastest_pack(kind: str) -> int:
    """Return the default number of cells at the same time on a type of device, `cuda` or `cpu`."""
    return _FASTEST_PACK.get(kind, 1)


class _Workers:
    """Computes cells, one after another or several at the same time."""

    def __init__(
        self,
        folder: ResultsFolder,
        device: torch.device,
        progress: Progress,
        on_cell: OnDone,
        pack: int,
        part: Part,
        watch: Watch,
        keep_learners: bool,
    ) -> None:
        self._part = part
        self._folder, self._device, self._on_cell, self._pack = folder, device, on_cell, pack
        self._watch = watch
        self.stop = Stop(beat=watch.beat)
        self.saved: list[str] = []
        self._worker = partial(
            Worker,
            folder,
            device,
            watch.progress(progress),
            self.stop,
            failed={},
            spent={},
            warned=set(),
            company=Company(),
            keep_learners=keep_learners,
            shards=part.shards,
        )
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._returns: Counter[str] = Counter()
        self.total = self.done = self.computed = 0
        self.failures: list[Failure] = []

    @property
    def finished(self) -> str:
        """How many cells are finished, for messages."""
        return f"{self.done + self.computed} of {count(self.total, 'cell')} finished"

    def finish(self, cells: Sequence[Cell | Probe], spare: Sequence[Cell | Probe]) -> None:
        """Compute cells and probes, and `spare` ones while other processes hold these."""
        self._mine.worker = self._worker()  # of the main thread, which receives Ctrl-C
        spare = [item for item in spare if item not in cells]
        looks = 0
        while cells:
            # One at a time, the first that is free then; packed cells need several.
            free = self._free(cells, 1 if self._pack == 1 else None)
            if free:
                left = {item.key for item in self._run(free)}
                done = {item.key for item in free} - left
                cells = [item for item in cells if item.key not in done]
                looks = 0
                continue
            other = next(iter(self._free(spare, 1)), None)
            if other is not None:
                spare = [item for item in spare if item is not other]
                self._attempt(other)
                continue
            looks += 1
            if looks == _PATIENCE:
                self._name_owner(cells[0])
            self.stop.check()
            time.sleep(_PAUSE)

    def _free(self, items: Sequence[Cell | Probe], most: int | None = None) -> list[Cell | Probe]:
        """Return the items that no process computes, and whose noise no process makes."""
        noises: dict[str, bool] = {}
        found: list[Cell | Probe] = []
        for item in items:
            if len(found) == most:
                break
            noise = item.poison.key
            if noise not in noises:
                noises[noise] = self._noise_is_free(item)
            if noises[noise] and self._is_unclaimed(item.key):
                found.append(item)
        return found

    def _is_unclaimed(self, key: str) -> bool:
        if not self._folder.lock(key).exists():  # without making it
            return True
        try:
            with self._folder.claim(key, wait=False) as mine:
                return mine
        except UserError:  # a lock that cannot be taken is the failure of its cell
            return True

    def _name_owner(self, item: Cell | Probe) -> None:
        """Name the process that is waited for, unless it is a worker of the same command."""
        key, what = item.key, item.name
        if self._is_unclaimed(key):
            key, what = item.poison.key, f"the noise of {item.poison.name}"
        if self._part.job and is_siblings(self._folder.lock(key)):
            return  # the command shows what it does
        _LOG.warning("ubench: waiting for %s%s", what, owner(self._folder.lock(key)))

    def _run(self, cells: list[Cell | Probe]) -> list[Cell | Probe]:
        """Compute cells and probes; return those that another process computes."""
        if self._pack == 1:
            return [cell for cell in cells if not self._attempt(cell)]
        # Noise is not packed: it uses the whole device, and its generation time is a result.
        for poison in {cell.poison.key: cell.poison for cell in cells}.values():
            with self._saved_noted(poison.name), self._watch.over(poison):
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
        self._folder.wait_until_present(self.stop.check)
        self.stop.check()
        with ExitStack() as stack:
            stack.enter_context(self._saved_noted(cell.name))
            stack.enter_context(self.stop.storing())
            try:
                with outlasting(self._folder.path, self.stop.check):
                    if not stack.enter_context(
                        self._folder.claim(cell.key, wait=False, what=cell.name)
                    ):
                        return False
                    job = self._part.job  # in which another worker may have tried it
                    if settle(self._folder, cell) or failed_in(self._folder, cell.key, job):
                        return True
                    if not self._noise_is_free(cell):
                        return False
                    self._part.begun(cell)
                    with self._watch.over(cell):
                        result = self._finish(cell)
            # All other cells would fail alike.
            except (DiskError, FolderGoneError, KeyboardInterrupt, StoppedError):
                raise
            except BaseException as error:  # a failing cell must not stop the others
                if isinstance(error, FolderReturnedError) and self._begins_again(cell):
                    return False
                trace = trace_of(error)
                failure = Failure(cell, reason(error), trace if has_trace(error) else "")
                self.failures.append(failure)
                self._part.failed(failure)
                with suppress(OSError, DiskError):
                    self._folder.write_failure(
                        cell.key, cell.labels, failure.reason, trace, self._part.job
                    )
                if not is_usable(self._device):
                    self._watch.lose(cell, failure.reason, trace)
                return True
            with suppress(OSError):
                self._folder.clear_failure(cell.key)
                self._folder.forget_checkpoints(cell.key)
            with self._lock:
                self.computed += 1
                self._on_cell(cell, result)
        return True

    def _begins_again(self, item: Cell | Probe) -> bool:
        """Return whether an item is tried again, because its folder had disappeared."""
        self._returns[item.key] += 1
        return self._returns[item.key] <= _RETURNS

    def _noise_is_free(self, item: Cell | Probe) -> bool:
        """Return whether this process need not wait until another has made an item's noise."""
        return self._folder.has_poison(item.poison.key) or self._is_unclaimed(item.poison.key)

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
            MEASURED_ROBUSTNESS.write(self._folder.path, measurement)
            return measurement
        record: Record = self._mine.worker.compute(item)
        self._folder.wait_until_present(self.stop.check)
        self._folder.write_record(record)
        return record
