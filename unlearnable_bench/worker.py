"""Computes a cell: makes the poison where there is none, trains on it, tests, takes down."""

import gc
import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from unlearnable_bench.contract import Learner
from unlearnable_bench.environment import describe, peak_memory
from unlearnable_bench.errors import UserError, in_words
from unlearnable_bench.harness import Harness, Network, Random, accuracy, train
from unlearnable_bench.harness.capture import EXCLUSIVE
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.progress import Progress, Stoppable
from unlearnable_bench.identity import canonical
from unlearnable_bench.images import ImageSet, Pixels, Poison
from unlearnable_bench.plan import Cell, PoisonPlan
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.records import FORMAT, Record
from unlearnable_bench.results.store import ResultsFolder


@dataclass
class Worker:
    """Computes one cell after another, and the poisons that they need.

    Attributes:
        folder: where results are and go.
        device: the CPU or one GPU.
        progress: where loops are shown.
        failed: why a poison could not be made, by key: it is not tried again for each cell.
        packed: how many workers are at work at once.
        alone: whether a cell has the device to itself, and may be computed accordingly.
    """

    folder: ResultsFolder
    device: torch.device
    progress: Stoppable
    failed: dict[str, str]
    packed: int
    alone: bool

    def __post_init__(self) -> None:
        self._environment = describe(self.device)
        self._held: tuple[str, Pixels, dict[str, Any]] | None = None

    def compute(self, cell: Cell) -> Record:
        """Train and test one cell, making its poison where there is none."""
        clean, test = cell.poison.data.train, cell.poison.data.test
        pixels, about = self._poison(cell.poison)
        self._reset(cell.poison.seed)
        checkpoint = self.folder.checkpoint(cell.key)
        resumed = checkpoint.exists()
        poisoned, unpoisoned = cell.protection.apply(clean, pixels, cell.poison.seed)
        poisoned, validation = _hold_out(cell, poisoned, unpoisoned)
        defense = cell.defense.plugin
        harness = self._harness(cell.poison, checkpoint, cell.name)
        harness = replace(harness, learner=cell.learner.plugin, alone=self.alone)
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
            peak_memory=peak_memory(self.device),
            packed=self.packed,
            environment=self._environment,
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
        )

    def prepare(self, plan: PoisonPlan) -> None:
        """Make a poison that the folder should have and has not, unless another process does."""
        if not plan.kept or self.folder.has_poison(plan.key):
            return
        # What goes wrong is told with each cell that needs it.
        with self.folder.claim(plan.key, wait=False) as mine, suppress(Exception, SystemExit):
            if mine:
                self._stored(plan)

    def _poison(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        """Return the poison and what is known of it: in hand, from the folder, or made now."""
        if self._held and self._held[0] == plan.key:
            return self._held[1:]
        if plan.kept:
            with self.folder.claim(plan.key, wait=True, tick=self.progress.check):
                found = self._stored(plan)
        else:
            found = self._generate(plan)
        self._held = (plan.key, *found)
        return found

    def _stored(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        """Return the folder's poison, made now where there is none; needs the claim on it."""
        stored = self.folder.poison(plan.key)
        if stored:
            return stored
        made = self._generate(plan)
        self.folder.write_poison(plan.key, *made)
        self.folder.checkpoint(plan.key).unlink(missing_ok=True)
        return made

    def _generate(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        if plan.key in self.failed:
            raise UserError(self.failed[plan.key])
        self._reset(plan.seed)
        clean = plan.data.train
        # What is made anew for each cell, maybe for two at once, keeps no state.
        state = self.folder.checkpoint(plan.key) if plan.kept else None
        resumed = bool(state and state.exists())
        harness = self._harness(plan, state, f"{plan.attack.label}, seed {plan.seed}")
        if not plan.attack.plugin.trains_surrogate:
            harness.learner = _NoSurrogate()
        try:
            poison = plan.attack.plugin.generate(clean, harness)
            spent = harness.times.read()
            _check(plan.attack.name, clean.images, poison)
            if plan.attack.plugin.fingerprint() != plan.identity["attack"].get("fingerprint"):
                raise UserError("what it reads changed meanwhile; run the command again")
        except (Exception, SystemExit) as error:
            # Not the error: its traceback would keep all that the method had on the device.
            self.failed[plan.key] = reason(error)
            raise
        return poison.images, {
            "key": plan.key,
            "identity": _as_json(plan.identity),
            "sha256": hashlib.sha256(np.ascontiguousarray(poison.images).data).hexdigest(),
            "budget": {"norm": poison.budget.norm, "radius": _as_written(poison.budget.radius)},
            "notes": poison.notes,
            "warmup_seconds": spent.pop("warmup", 0.0),
            "seconds": sum(spent.values()),
            "resumed": resumed,
            "environment": self._environment,
        }

    def _harness(self, plan: PoisonPlan, state: Path | None, label: str) -> Harness:
        # fp32 is the reference: no TF32 in it.
        torch.backends.cuda.matmul.allow_tf32 = plan.precision != "fp32"
        torch.backends.cudnn.allow_tf32 = plan.precision != "fp32"
        return Harness(
            device=self.device,
            seed=plan.seed,
            precision=plan.precision,
            transform=plan.data.transform,
            learner=plan.surrogate.plugin,
            training=plan.training,
            weights=self.folder.network(plan.clean_network_key),
            checkpoint=Checkpoint(state),
            progress=_Labelled(label, self.progress),
        )

    def _reset(self, seed: int) -> None:
        """Give the last cell's memory back and start counting anew."""
        with EXCLUSIVE:
            gc.collect()
            # For a plugin that draws from these instead of `harness.random`.
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self.device)


class _NoSurrogate(Learner):
    """Stands where an attack says that it needs none, which is then in no key."""

    def build(self, classes: int, size: int) -> nn.Module:
        raise UserError(
            "the attack says `trains_surrogate = False` and asks for a network: the surrogate "
            "would be missing in the key of its results; say True"
        )


@dataclass(frozen=True)
class _Labelled:
    """Progress that says which cell or poison a loop belongs to."""

    label: str
    inner: Progress

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        return self.inner.track(f"{self.label}: {label}", total, steps)


def reason(error: BaseException) -> str:
    """Say in one line what went wrong, and where, or what to do about it."""
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "GPU out of memory; add --pack 1, or lower the batch size "
            "(--set training.batch_size=..., or the attack's batch_size and samples)"
        )
    return in_words(error)


def _hold_out(cell: Cell, poisoned: ImageSet, clean: ImageSet) -> tuple[ImageSet, ImageSet | None]:
    """Split off what the defense wants to choose the epoch by."""
    share = cell.defense.plugin.validation_share()
    if not share:
        return poisoned, None
    if not 0 < share < 1:
        raise UserError(f"the defense's `validation_share` is {share:g}, no share of the images")
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


def _check(name: str, clean: Pixels, poison: Any) -> None:
    """Refuse a poison that is not what its method promises."""
    if not isinstance(poison, Poison):
        raise UserError(f"attack {name!r} returned {type(poison).__name__} instead of a Poison")
    images: Any = poison.images
    if not isinstance(images, np.ndarray):
        kind = type(images).__name__
        raise UserError(f"attack {name!r} returned images as {kind} instead of a numpy array")
    if images.dtype != np.uint8 or images.shape != clean.shape:
        got = f"{images.dtype} {list(images.shape)}"
        raise UserError(f"attack {name!r} returned {got} instead of uint8 {list(clean.shape)}")
    excess = poison.budget.excess(clean, images)
    if excess:
        raise UserError(f"attack {name!r} breaks its promised budget: {excess}")
    if poison.budget.radius and np.array_equal(images, clean):
        raise UserError(
            f"attack {name!r} changed no image within a radius of {poison.budget.radius}: "
            "`add_noise` takes noise in units of 1/255, and rounds to 8 bits"
        )


def _as_written(radius: Radius | float) -> str | float:
    return str(radius) if isinstance(radius, Radius) else radius


def _as_json(identity: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(canonical(identity))
    return plain
