"""Computes cells: generates the poison if it is missing, trains on it, tests, and records."""

import gc
import logging
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlearnable_bench.errors import UserError, one_line
from unlearnable_bench.harness import Harness, Network, Random
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.device import EXCLUSIVE
from unlearnable_bench.harness.group import Group
from unlearnable_bench.harness.progress import Labelled, Progress, Silent
from unlearnable_bench.harness.trajectory import Trajectory
from unlearnable_bench.identity import as_json
from unlearnable_bench.images import ImageSet, Pixels, sha256_of
from unlearnable_bench.planning.plan import Cell, PoisonPlan, Probe
from unlearnable_bench.planning.registry import Chosen
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.presence import (
    FolderGoneError,
    FolderReturnedError,
    outlasting,
)
from unlearnable_bench.results.records import FORMAT, Bound, Record
from unlearnable_bench.results.robustness import Robustness
from unlearnable_bench.results.samples import measure_quality, write_samples
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.company import Company
from unlearnable_bench.running.environment import describe, peak_memory
from unlearnable_bench.running.learners import write_learner
from unlearnable_bench.running.poisoned_test import poisoned_test_accuracy
from unlearnable_bench.running.promises import check_poison, check_stored, check_surrogate
from unlearnable_bench.running.robustness import measure
from unlearnable_bench.running.shards import Shards
from unlearnable_bench.running.surrogate import set_damaged_aside
from unlearnable_bench.running.training import accuracy, train
from unlearnable_bench.stop import Stop, StoppedError
from unlearnable_bench.storage.damage import DamagedError, set_aside
from unlearnable_bench.storage.disk import DiskError
from unlearnable_bench.traces import FailedWork, has_trace, trace_of

_LOG = logging.getLogger(__name__)

# Poisons of methods without a network that take less time are not cached in the results folder,
# but generated again for each cell.
CACHED_SECONDS = 5.0


@dataclass
class Worker:
    """Computes one cell after another, and the poisons that they need.

    Attributes:
        folder: results folder, read and written.
        device: the CPU or a GPU.
        progress: display of the loops' progress.
        stop: request to end the work.
        failed: poisons that could not be generated, by key, which other cells do not try again.
        spent: seconds and those of warm-up of the poisons generated here, by key. One that is too
            fast to be stored is generated for each cell, later ones beside other cells.
        warned: keys of poisons whose samples could not be written, each reported once.
        company: the cells of workers that run at the same time.
        keep_learners: whether trained learners are written to the results folder.
        shards: processes that divide the noise generations among GPUs; None: one device.
    """

    folder: ResultsFolder
    device: torch.device
    progress: Progress
    stop: Stop
    failed: dict[str, FailedWork] = field(default_factory=dict)
    spent: dict[str, dict[str, float]] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    company: Company = field(default_factory=Company)
    keep_learners: bool = False
    shards: Shards | None = None

    def __post_init__(self) -> None:
        self._environment = describe(self.device)
        self._held: tuple[str, Pixels, dict[str, Any]] | None = None

    def compute(self, cell: Cell) -> Record:
        """Train and test a cell, and generate its poison if it is missing."""
        clean, test = cell.poison.data.train, cell.poison.data.test
        pixels, metadata = self.poison(cell.poison)
        self._reset(cell.seed)
        checkpoint = self.folder.checkpoint(cell.key)
        resumed = checkpoint.exists() or Checkpoint(checkpoint).apart("preparation").exists
        poisoned, unpoisoned = cell.protection.apply(clean, pixels, cell.poison.seed)
        poisoned, validation = _hold_out(cell, poisoned, unpoisoned)
        defense = cell.defense.plugin
        drawn = replace(cell.poison, seed=cell.seed)
        harness = self._harness(drawn, checkpoint, cell.name)
        harness = replace(harness, learner=cell.learner.plugin, split_batches=False)
        with self.company.joined() as stay:
            outcome = train(poisoned, test, defense, cell.rho_a, cell.training, harness, validation)
        _refuse_changed("defense", cell.defense, cell.identity["defense"])
        if self.keep_learners:  # before the record: a finished cell has its learner
            self.folder.wait_until_present(self.stop.check)
            write_learner(self.folder.learner(cell.key), cell, outcome.model)
        maker = self._maker(cell.poison, None, cell.name)
        with harness.times.on("evaluation"):
            on_poisoned = poisoned_test_accuracy(cell, pixels, outcome.model, maker, harness)
        spent = {"training": harness.times["work"]}
        spent |= {kind: harness.times[kind] for kind in ("preparation", "warmup", "evaluation")}
        budget = metadata["budget"]
        labels = cell.labels | {"rho_u": Bound(budget["norm"], budget["radius"])}
        return Record(
            format=FORMAT,
            key=cell.key,
            identity=as_json(cell.identity),
            **labels,
            test_accuracy=outcome.accuracy[outcome.chosen],
            protected_accuracy=_protected_accuracy(cell, outcome.model, harness),
            poisoned_test_accuracy=on_poisoned,
            peak_accuracy=max(outcome.accuracy),
            epoch_accuracy=list(outcome.accuracy),
            train_accuracy=outcome.train_accuracy,
            poison=metadata,
            seconds=spent,
            resumed=resumed,
            peak_memory=peak_memory(self.device),
            classes=clean.classes,
            packed=stay.most,
            environment=self._environment,
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
        )

    def measure(self, probe: Probe) -> Robustness:
        """Measure the robustness of a poison, and generate it if it is missing."""
        pixels, metadata = self.poison(probe.poison)
        surrogate = self.folder.network(probe.poison.key)
        with self.folder.claim(probe.poison.key, wait=True, tick=self.stop.check):
            if set_damaged_aside(surrogate, self.device):
                _, again = self._generate(probe.poison)
                if again["sha256"] != metadata["sha256"]:
                    surrogate.unlink(missing_ok=True)
                    raise UserError(f"{surrogate} cannot be made again here; use its first device")
        self._reset(probe.poison.seed)
        progress = Labelled(probe.name, self.progress)
        harness = harness_of(
            probe.poison, self.folder, self.device, progress=progress, stop=self.stop
        )
        reference = self.folder.network(probe.reference_key)
        with self.company.joined():  # it uses the device like a cell
            return measure(probe, pixels, harness, surrogate, reference, self._environment)

    def prepare(self, plan: PoisonPlan) -> None:
        """Generate a poison that the folder lacks, unless another process does."""
        if self.folder.has_poison(plan.key):
            return
        try:
            with self.folder.claim(plan.key, wait=False) as mine:
                if mine:
                    self._stored(plan)
        except (DiskError, FolderGoneError, KeyboardInterrupt, StoppedError):
            raise
        except BaseException:
            _LOG.debug("each cell that needs %s reports its error", plan.name)

    def poison(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        """Return a poison and its metadata, from memory, from the folder, or generated now."""
        if self._held and self._held[0] == plan.key:
            return self._held[1:]
        self._held = None  # two poisons of a large set may not fit into memory
        what = f"the noise of {plan.name}"
        with self.folder.claim(plan.key, wait=True, tick=self.stop.check, what=what):
            images, metadata = self._stored(plan)
        if "quality" not in metadata:  # written by a version that did not measure it
            metadata |= {"quality": measure_quality(plan.data.train.images, images)}
        if metadata["quality"]["linf"]:
            self._write_samples(plan, images)
        self._held = (plan.key, images, metadata)
        return images, metadata

    def _write_samples(self, plan: PoisonPlan, images: Pixels) -> None:
        """Write samples of a poison for reports; a failure is a warning, not an error."""
        data = plan.data
        self.folder.wait_until_present(self.stop.check)
        try:
            write_samples(self.folder.path, plan.key, data.train, images, data.class_names)
        except OSError as error:
            if plan.key not in self.warned:
                self.warned.add(plan.key)
                _LOG.warning(
                    "ubench: the samples of %s cannot be written (%s); figures will lack them",
                    plan.name,
                    error,
                )

    def _stored(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        """Return the folder's poison, generated now if it is missing; needs the claim on it."""
        try:
            stored = self.folder.poison(plan.key)
            if stored:
                check_stored(self.folder.poison_path(plan.key), plan, *stored)
                return stored
        except DamagedError as error:
            set_aside(error.path, error.reason, "the poison is generated again")
        with self.stop.storing():
            images, metadata = self._generate(plan)
            trained = plan.attack.plugin.surrogate != "none"
            if trained or metadata["seconds"] >= CACHED_SECONDS:
                self.folder.wait_until_present(self.stop.check)
                self.folder.write_poison(plan.key, images, metadata)
        self.folder.forget_checkpoints(plan.key)
        return images, metadata

    def _generate(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        if plan.key in self.failed:
            raise self.failed[plan.key].again()
        self._reset(plan.seed)
        clean = plan.data.train
        state = self.folder.checkpoint(plan.key)
        resumed = state.exists()
        trajectory = Trajectory(self.folder.network(plan.trajectory_key).with_suffix(""))
        try:
            with outlasting(self.folder.path, self.stop.check), self._led(plan) as group:
                harness = self._maker(plan, state, plan.name)
                harness.group = group
                harness.surrogate = self.folder.network(plan.key)
                # A folder in its place could not be written over.
                set_damaged_aside(harness.surrogate, self.device)
                harness.trajectory = trajectory
                harness.declared = plan.attack.plugin.surrogate
                poison = plan.attack.plugin.generate(clean, harness)
                spent = harness.times.read()
            check_poison(plan.attack.name, clean.images, poison)
            check_surrogate(plan.attack.name, harness)
            _refuse_changed("attack", plan.attack, plan.identity["attack"])
        except (DiskError, FolderReturnedError, FolderGoneError, KeyboardInterrupt, StoppedError):
            raise
        except BaseException as error:
            # As text, since the traceback would keep the method's tensors on the device alive.
            self.failed[plan.key] = FailedWork(reason(error), trace_of(error), has_trace(error))
            raise
        return poison.images, {
            "key": plan.key,
            "identity": as_json(plan.identity),
            "sha256": sha256_of(poison.images),
            "budget": {"norm": poison.budget.norm, "radius": _as_written(poison.budget.radius)},
            "quality": measure_quality(clean.images, poison.images),
            "notes": poison.notes,
            **self.spent.setdefault(plan.key, _as_recorded(spent)),
            "resumed": resumed or bool(trajectory.joined),
            "environment": self._environment,
            **({"shards": group.size} if group else {}),
        }

    def _led(self, plan: PoisonPlan) -> AbstractContextManager[Group | None]:
        """Start the other processes of a generation that is divided among GPUs."""
        if self.shards and plan.attack.plugin.shardable:
            return self.shards.led(plan.key, self.device)
        return nullcontext()

    def follow(self, plan: PoisonPlan, group: Group) -> None:
        """Generate a poison together with the process that leads the group, which stores it."""
        self._reset(plan.seed)
        harness = self._maker(plan, None, plan.name)
        harness.group, harness.declared = group, plan.attack.plugin.surrogate
        plan.attack.plugin.generate(plan.data.train, harness)

    def _maker(self, plan: PoisonPlan, state: Path | None, label: str) -> Harness:
        """Return the harness in which a poison is generated."""
        if plan.attack.plugin.surrogate == "none":
            # Precision is that of networks, and no part of the key of a poison without one.
            plan = replace(plan, precision="fp32")
        return self._harness(plan, state, label)

    def _harness(self, plan: PoisonPlan, state: Path | None, label: str) -> Harness:
        progress = Labelled(label, self.progress)
        return harness_of(plan, self.folder, self.device, state, progress, self.stop)

    def _reset(self, seed: int) -> None:
        """Free the memory of the previous cell, and reset the peak and the global generators."""
        with EXCLUSIVE:
            gc.collect()
            # For plugins that draw from global generators instead of `harness.random`.
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self.device)


def _as_recorded(spent: dict[str, float]) -> dict[str, float]:
    """Return the seconds of a generation, without those of storing its state, and of warm-up."""
    work = sum(seconds for kind, seconds in spent.items() if kind not in ("warmup", "keeping"))
    return {"warmup_seconds": spent.get("warmup", 0.0), "seconds": work}


def _refuse_changed(kind: str, chosen: Chosen[Any], planned: dict[str, Any]) -> None:
    """Refuse a plugin that is no longer what it was in the plan, such as one that reads a file."""
    if chosen.identity() != planned:
        raise UserError(
            f"a file that {kind} {chosen.name!r} reads changed meanwhile; run the command again"
        )


def harness_of(
    plan: PoisonPlan,
    folder: ResultsFolder,
    device: torch.device,
    state: Path | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Harness:
    """Return the harness in which a poison is generated, or its surrogate is measured.

    Args:
        plan: plan of the poison.
        folder: results folder, which caches surrogates trained on clean images.
        device: the CPU or a GPU.
        state: checkpoint file of the loops' state; None: not written.
        progress: display of the loops' progress; None: not shown.
        stop: request to end the loops; None: there is none.
    """
    return Harness(
        device=device,
        seed=plan.seed,
        precision=plan.precision,
        transform=plan.data.transform,
        learner=plan.surrogate.plugin,
        training=plan.training,
        images=plan.data.train,
        weights=folder.network(plan.clean_network_key),
        weights_rho_a=plan.attack.plugin.surrogate_rho_a(),
        checkpoint=Checkpoint(state),
        progress=progress or Silent(),
        stop=stop or Stop(),
        split_batches=True,  # noise is never packed
    )


def reason(error: BaseException) -> str:
    """Return an error as one line, with its location or the next step."""
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "GPU out of memory; add --pack 1, or lower the batch size "
            "(--set training.batch_size=..., or the attack's batch_size and samples)"
        )
    if isinstance(error, MemoryError):
        return (
            "out of memory; add --pack 1, or lower the batch size (--set training.batch_size=..., "
            f"or the attack's): {one_line(error)}"
        )
    return one_line(error)


def _hold_out(cell: Cell, poisoned: ImageSet, clean: ImageSet) -> tuple[ImageSet, ImageSet | None]:
    """Split off the clean images by which the defense chooses the epoch."""
    share = cell.defense.plugin.validation_share()
    if not share:
        return poisoned, None
    if not 0 < share < 1:
        raise UserError(f"the defense's `validation_share` is {share:g}; allowed: 0 to below 1")
    order = Random(cell.seed, "validation images").permutation(len(clean)).numpy()
    held = cell.defense.plugin.held_out_count(len(clean))
    return poisoned.subset(np.sort(order[held:])), clean.subset(order[:held])


def _protected_accuracy(cell: Cell, model: Network, harness: Harness) -> float | None:
    """Return the accuracy on the protected classes in percent; None if no classes are chosen."""
    test, classes = cell.poison.data.test, cell.protection.classes
    of_these = np.flatnonzero(np.isin(test.labels, classes))
    if not len(of_these):
        return None
    return accuracy(model, *harness.tensors(test.subset(of_these)))


def _as_written(radius: Radius | float | None) -> str | float | None:
    return str(radius) if isinstance(radius, Radius) else radius
