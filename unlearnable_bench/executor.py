"""Runs the cells of a plan that a results folder lacks, one after another, on one device.

Several processes may work on one folder, one for each GPU: a cell that another
process works on is put off, and found finished or taken over later.
"""

import gc
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from unlearnable_bench.environment import describe, peak_memory
from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness, train
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.images import ImageSet, Pixels, Poison
from unlearnable_bench.plan import Cell, Plan, PoisonPlan
from unlearnable_bench.records import FORMAT, Record
from unlearnable_bench.store import ResultsFolder, canonical


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
) -> Summary:
    """Compute every cell of the plan that is missing.

    Args:
        plan: the cells.
        folder: where results are and go.
        device: the CPU or one GPU.
        progress: where loops are shown.
        on_cell: called with each cell as it is finished.

    Raises:
        UserError: a damaged file in the folder.
    """
    worker = _Worker(folder, device, progress or Silent())
    done = [cell.key for cell in plan.cells if folder.record(cell.key)]
    missing = [cell for cell in plan.cells if cell.key not in done]
    computed, failures = 0, []
    for wait in (False, True):  # first what nobody works on, then what others did not finish
        put_off = []
        for cell in missing:
            with folder.claim(cell.key, wait=wait) as mine:
                if not mine:
                    put_off.append(cell)
                    continue
                if folder.record(cell.key):
                    continue
                try:
                    record = worker.compute(cell)
                except Exception as error:  # one broken cell must not cost the others
                    failures.append(Failure(cell, _reason(error)))
                    continue
                folder.write_record(record)
                folder.checkpoint(cell.key).unlink(missing_ok=True)
                computed += 1
                on_cell(cell, record)
        missing = put_off
    return Summary(computed, len(plan.cells) - computed - len(failures), tuple(failures))


class _Worker:
    def __init__(self, folder: ResultsFolder, device: torch.device, progress: Progress) -> None:
        self._folder = folder
        self._device = device
        self._progress = progress
        self._environment = describe(device)
        self._held: tuple[str, Pixels, dict[str, Any]] | None = None
        self._failed: dict[str, Exception] = {}  # by poison: not tried again for each cell
        # Repeatable results: no choice of algorithms by timing, no racing sums.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True

    def compute(self, cell: Cell) -> Record:
        """Train and test one cell, making its poison where there is none."""
        clean, test = cell.poison.data.train, cell.poison.data.test
        pixels, about = self._poison(cell.poison)
        self._reset()
        checkpoint = self._folder.checkpoint(cell.key)
        resumed = checkpoint.exists()
        harness = self._harness(cell.poison, cell.key, cell.name)
        harness = replace(harness, learner=cell.learner.plugin)
        outcome = train(
            ImageSet(pixels, clean.labels, clean.classes),
            test,
            cell.defense.plugin,
            cell.rho_a,
            cell.training,
            harness,
        )
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
            protect=1.0,
            preset=cell.preset_label,
            seed=cell.poison.seed,
            test_accuracy=outcome.accuracy[-1],
            peak_accuracy=max(outcome.accuracy),
            epoch_accuracy=list(outcome.accuracy),
            train_accuracy=outcome.train_accuracy,
            poison=about,
            seconds={
                "training": outcome.seconds,
                "warmup": harness.warmup_seconds,
                "evaluation": outcome.evaluation_seconds,
            },
            resumed=resumed,
            peak_memory=peak_memory(self._device),
            environment=self._environment,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _poison(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        """Return the poison and what is known of it: in hand, from the folder, or made now."""
        if self._held and self._held[0] == plan.key:
            return self._held[1:]
        if plan.key in self._failed:
            raise self._failed[plan.key]
        attack = plan.attack.plugin
        if not (attack.trains_surrogate or attack.slow):
            found = self._generate(plan)
        else:
            with self._folder.claim(plan.key, wait=True):
                stored = self._folder.poison(plan.key)
                found = stored or self._generate(plan)
                if not stored:
                    self._folder.write_poison(plan.key, *found)
                    self._folder.checkpoint(plan.key).unlink(missing_ok=True)
        self._held = (plan.key, *found)
        return found

    def _generate(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        self._reset()
        clean = plan.data.train
        resumed = self._folder.checkpoint(plan.key).exists()
        harness = self._harness(plan, plan.key, f"{plan.attack.label}, seed {plan.seed}")
        started = time.perf_counter()
        try:
            poison = plan.attack.plugin.generate(clean, harness)
            seconds = time.perf_counter() - started
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
            "seconds": seconds - harness.warmup_seconds,
            "warmup_seconds": harness.warmup_seconds,
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
            "GPU out of memory; lower the batch size (--set training.batch_size=..., "
            "or the attack's batch_size and samples)"
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
