"""Runs the cells of a plan that a results folder lacks on one device.

Several processes may work on one folder, one for each GPU: a cell that another
process works on is put off, and found finished or taken over later.
"""

import gc
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from unlearnable_bench.environment import describe, peak_memory
from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness, Network, Random, accuracy, train
from unlearnable_bench.harness.capture import EXCLUSIVE, own_stream
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.images import ImageSet, Pixels, Poison
from unlearnable_bench.plan import Cell, Plan, PoisonPlan
from unlearnable_bench.records import FORMAT, Record
from unlearnable_bench.store import ResultsFolder, canonical

# One small network leaves part of a GPU idle; measured, more than two gain nothing.
_FASTEST_PACK = {"cuda": 2}


@dataclass(frozen=True)
class Failure:
    """A cell that could not be finished, and why in one line."""

    cell: Cell
    reason: str


@dataclass(frozen=True)
class Summary:
    """What running a plan came to.

    Attributes:
        computed: cells that this call finished.
        reused: cells that the folder held already, or another process finished.
        failures: cells that could not be finished; the others are not affected.
    """

    computed: int
    reused: int
    failures: tuple[Failure, ...]


def execute(
    plan: Plan,
    folder: ResultsFolder,
    device: torch.device,
    progress: Progress | None = None,
    on_cell: Callable[[Cell, Record], None] = lambda _cell, _record: None,
    pack: int | None = None,
) -> Summary:
    """Compute every cell of the plan that is missing.

    Args:
        plan: the cells.
        folder: where results are and go.
        device: the CPU or one GPU.
        progress: where loops are shown.
        on_cell: called with each cell as it is finished.
        pack: cells at once, each in a thread and, on a GPU, on a stream of its own;
            None: as many as are fastest, two on a GPU and one on the CPU.

    Raises:
        UserError: a damaged file in the folder.
    """
    # Repeatable results: no choice of algorithms by timing, no racing sums.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    done = [cell.key for cell in plan.cells if folder.record(cell.key)]
    missing = [cell for cell in plan.cells if cell.key not in done]
    pack = pack or _FASTEST_PACK.get(device.type, 1)
    # Of all cells, not of the missing: else the last one, resumed, would be computed otherwise.
    alone = min(pack, len(plan.cells)) == 1
    pack = min(pack, max(1, len(missing)))
    workers = _Workers(folder, device, progress or Silent(), on_cell, pack, alone=alone)
    for wait in (False, True):  # first what nobody works on, then what others did not finish
        missing = workers.run(missing, wait=wait)
    failures = tuple(workers.failures)
    return Summary(workers.computed, len(plan.cells) - workers.computed - len(failures), failures)


class _Workers:
    """Computes cells, one after another or several at once."""

    def __init__(
        self,
        folder: ResultsFolder,
        device: torch.device,
        progress: Progress,
        on_cell: Callable[[Cell, Record], None],
        pack: int,
        *,
        alone: bool,
    ) -> None:
        self._folder, self._device, self._on_cell = folder, device, on_cell
        self._progress = _Stoppable(progress)
        self._pack, self._alone = pack, alone
        self._failed: dict[str, Exception] = {}
        self._mine = threading.local()
        self._lock = threading.Lock()
        self.computed = 0
        self.failures: list[Failure] = []

    def run(self, cells: list[Cell], *, wait: bool) -> list[Cell]:
        """Compute cells; return those that another process works on."""
        self._wait = wait
        self._mine.worker = self._worker()  # the main thread's, where Ctrl-C arrives
        if self._pack == 1:
            return [cell for cell in cells if not self._attempt(cell)]
        # Noise is not packed: it fills a device, and how long it takes is a result.
        for poison in {cell.poison.key: cell.poison for cell in cells}.values():
            self._mine.worker.prepare(poison)
        self._numbers = itertools.count(1)
        with ThreadPoolExecutor(self._pack, initializer=self._start) as pool:
            attempts = [pool.submit(self._attempt, cell) for cell in cells]
            try:
                return [
                    cell
                    for cell, attempt in zip(cells, attempts, strict=True)
                    if not attempt.result()
                ]
            except BaseException:
                self._progress.stop = True
                pool.shutdown(cancel_futures=True)
                raise

    def _worker(self) -> "_Worker":
        return _Worker(
            self._folder, self._device, self._progress, self._failed, self._pack, alone=self._alone
        )

    def _start(self) -> None:
        """Begin a thread of packed cells."""
        own_stream(self._device, next(self._numbers))
        self._mine.worker = self._worker()

    def _attempt(self, cell: Cell) -> bool:
        """Compute a cell unless another process works on it; return whether it is dealt with."""
        with self._folder.claim(cell.key, wait=self._wait) as mine:
            if not mine:
                return False
            if self._folder.record(cell.key):
                return True
            try:
                record = self._mine.worker.compute(cell)
            except Exception as error:  # one broken cell must not cost the others
                self.failures.append(Failure(cell, _reason(error)))
                return True
            self._folder.write_record(record)
            self._folder.checkpoint(cell.key).unlink(missing_ok=True)
            with self._lock:
                self.computed += 1
                self._on_cell(cell, record)
        return True


class _StoppedError(BaseException):
    """Ends a thread's work after Ctrl-C; not an error of its cell."""


@dataclass
class _Stoppable:
    """Progress that ends every loop once `stop` is set."""

    inner: Progress
    stop: bool = False

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        """Yield from `steps`."""
        for step in self.inner.track(label, total, steps):
            if self.stop:
                raise _StoppedError
            yield step


class _Worker:
    def __init__(
        self,
        folder: ResultsFolder,
        device: torch.device,
        progress: Progress,
        failed: dict[str, Exception],
        pack: int,
        *,
        alone: bool,
    ) -> None:
        self._folder = folder
        self._device = device
        self._progress = progress
        self._failed = failed  # by poison: not tried again for each cell
        self._pack, self._alone = pack, alone
        self._environment = describe(device)
        self._held: tuple[str, Pixels, dict[str, Any]] | None = None

    def compute(self, cell: Cell) -> Record:
        """Train and test one cell, making its poison where there is none."""
        clean, test = cell.poison.data.train, cell.poison.data.test
        pixels, about = self._poison(cell.poison)
        self._reset()
        checkpoint = self._folder.checkpoint(cell.key)
        resumed = checkpoint.exists()
        poisoned, unpoisoned = cell.protection.apply(clean, pixels, cell.poison.seed)
        poisoned, validation = _hold_out(cell, poisoned, unpoisoned)
        defense = cell.defense.plugin
        harness = self._harness(cell.poison, cell.key, cell.name)
        harness = replace(harness, learner=cell.learner.plugin, alone=self._alone)
        outcome = train(poisoned, test, defense, cell.rho_a, cell.training, harness, validation)
        spent = {"training": harness.times["work"]}
        spent |= {kind: harness.times[kind] for kind in ("preparation", "warmup", "evaluation")}
        budget = about["budget"]
        linf = budget["norm"] == "linf"
        return Record(
            format=FORMAT,
            key=cell.key,
            identity=_as_json(cell.identity),
            dataset=cell.poison.data.name,
            attack=cell.attack_label,
            learner=cell.learner.label,
            defense=cell.defense.label,
            rho_a=str(cell.rho_a),
            rho_u=str(budget["radius"]) if linf else f"l2 {budget['radius']}",
            protect=cell.protection.share,
            preset=cell.preset_label,
            seed=cell.poison.seed,
            test_accuracy=outcome.accuracy[outcome.chosen],
            protected_accuracy=_protected_accuracy(cell, outcome.model, harness),
            peak_accuracy=max(outcome.accuracy),
            epoch_accuracy=list(outcome.accuracy),
            train_accuracy=outcome.train_accuracy,
            poison=about,
            seconds=spent,
            resumed=resumed,
            peak_memory=peak_memory(self._device),
            packed=self._pack,
            environment=self._environment,
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
        )

    def prepare(self, plan: PoisonPlan) -> None:
        """Make a poison that the folder should have and has not, unless another process does."""
        if not plan.kept or self._folder.has_poison(plan.key):
            return
        # What goes wrong is told with each cell that needs it.
        with self._folder.claim(plan.key, wait=False) as mine, suppress(Exception):
            if mine:
                self._stored(plan)

    def _poison(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        """Return the poison and what is known of it: in hand, from the folder, or made now."""
        if self._held and self._held[0] == plan.key:
            return self._held[1:]
        if plan.kept:
            with self._folder.claim(plan.key, wait=True):
                found = self._stored(plan)
        else:
            found = self._generate(plan)
        self._held = (plan.key, *found)
        return found

    def _stored(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        """Return the folder's poison, made now where there is none; needs the claim on it."""
        stored = self._folder.poison(plan.key)
        if stored:
            return stored
        made = self._generate(plan)
        self._folder.write_poison(plan.key, *made)
        self._folder.checkpoint(plan.key).unlink(missing_ok=True)
        return made

    def _generate(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        if plan.key in self._failed:
            raise self._failed[plan.key]
        self._reset()
        clean = plan.data.train
        resumed = self._folder.checkpoint(plan.key).exists()
        harness = self._harness(plan, plan.key, f"{plan.attack.label}, seed {plan.seed}")
        try:
            poison = plan.attack.plugin.generate(clean, harness)
            spent = harness.times.read()
            _check(plan.attack.name, clean.images, poison)
        except Exception as error:
            self._failed[plan.key] = error
            raise
        return poison.images, {
            "key": plan.key,
            "identity": _as_json(plan.identity),
            "sha256": hashlib.sha256(np.ascontiguousarray(poison.images).data).hexdigest(),
            "budget": {"norm": poison.budget.norm, "radius": _plain(poison.budget.radius)},
            "notes": poison.notes,
            "warmup_seconds": spent.pop("warmup", 0.0),
            "seconds": sum(spent.values()),
            "resumed": resumed,
            "environment": self._environment,
        }

    def _harness(self, plan: PoisonPlan, key: str, label: str) -> Harness:
        # fp32 is the reference: no TF32 in it.
        torch.backends.cuda.matmul.allow_tf32 = plan.precision != "fp32"
        torch.backends.cudnn.allow_tf32 = plan.precision != "fp32"
        return Harness(
            device=self._device,
            seed=plan.seed,
            precision=plan.precision,
            transform=plan.data.transform,
            learner=plan.surrogate.plugin,
            training=plan.training,
            weights=self._folder.network(plan.clean_network_key),
            checkpoint=Checkpoint(self._folder.checkpoint(key)),
            progress=_Labelled(label, self._progress),
        )

    def _reset(self) -> None:
        """Give the last cell's memory back and start counting anew."""
        with EXCLUSIVE:
            gc.collect()
            torch.manual_seed(0)  # for a plugin that draws from torch's own generator
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self._device)


@dataclass(frozen=True)
class _Labelled:
    """Progress that says which cell or poison a loop belongs to."""

    label: str
    inner: Progress

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        return self.inner.track(f"{self.label}: {label}", total, steps)


def _hold_out(cell: Cell, poisoned: ImageSet, clean: ImageSet) -> tuple[ImageSet, ImageSet | None]:
    """Split off what the defense wants to choose the epoch by."""
    share = cell.defense.plugin.validation_share()
    if not share:
        return poisoned, None
    order = Random(cell.poison.seed, "validation images").permutation(len(clean)).numpy()
    held = max(1, round(share * len(clean)))
    return poisoned.subset(np.sort(order[held:])), clean.subset(order[:held])


def _protected_accuracy(cell: Cell, model: Network, harness: Harness) -> float | None:
    """Return the accuracy on the test images of the protected classes, where only some are."""
    test, classes = cell.poison.data.test, cell.protection.classes
    of_these = np.flatnonzero(np.isin(test.labels, classes))
    if not len(of_these):
        return None
    return accuracy(model, *harness.tensors(test.subset(of_these)))


def _check(name: str, clean: Pixels, poison: Poison) -> None:
    """Refuse a poison that is not what its method promises."""
    images = poison.images
    if images.dtype != np.uint8 or images.shape != clean.shape:
        got = f"{images.dtype} {list(images.shape)}"
        raise UserError(f"attack {name!r} returned {got} instead of uint8 {list(clean.shape)}")
    excess = poison.budget.excess(clean, images)
    if excess:
        raise UserError(f"attack {name!r} breaks its promised budget: {excess}")


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "GPU out of memory; add --pack 1, or lower the batch size "
            "(--set training.batch_size=..., or the attack's batch_size and samples)"
        )
    if isinstance(error, UserError):
        return str(error)
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    where = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame else ""
    return f"{type(error).__name__}: {error}{where}".replace("\n", " ")


def _as_json(identity: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(canonical(identity))
    return plain


def _plain(radius: Any) -> str | float:
    return radius if isinstance(radius, float) else str(radius)
