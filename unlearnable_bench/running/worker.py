"""Computes a cell: makes the poison where there is none, trains on it, tests, takes down."""

import gc
import hashlib
import logging
import random
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlearnable_bench.errors import UserError, one_line
from unlearnable_bench.harness import Harness, Network, Random
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.device import EXCLUSIVE
from unlearnable_bench.harness.progress import Progress, Silent, Stoppable
from unlearnable_bench.harness.trajectory import Trajectory
from unlearnable_bench.identity import as_json
from unlearnable_bench.images import ImageSet, Pixels, Poison
from unlearnable_bench.planning.plan import Cell, PoisonPlan, Probe
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.records import FORMAT, Bound, Record
from unlearnable_bench.results.robustness import Robustness
from unlearnable_bench.results.samples import measure_quality, write_samples
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.environment import describe, peak_memory
from unlearnable_bench.running.robustness import measure
from unlearnable_bench.running.training import accuracy, train

_LOG = logging.getLogger(__name__)

# A poison of a method without a network that takes less time is not written to the results
# folder: it is made again for each cell.
CACHED_SECONDS = 5.0


@dataclass
class Worker:
    """Computes one cell after another, and the poisons that they need.

    Attributes:
        folder: where results are and go.
        device: the CPU or one GPU.
        progress: where loops are shown.
        failed: why a poison could not be made, by key: it is not tried again for each cell.
        warned: keys of poisons whose samples could not be written: that is said once.
        packed: how many workers are at work at once.
    """

    folder: ResultsFolder
    device: torch.device
    progress: Stoppable
    failed: dict[str, "FailedPoison"]
    warned: set[str]
    packed: int

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
        harness = replace(harness, learner=cell.learner.plugin, split_batches=False)
        outcome = train(poisoned, test, defense, cell.rho_a, cell.training, harness, validation)
        spent = {"training": harness.times["work"]}
        spent |= {kind: harness.times[kind] for kind in ("preparation", "warmup", "evaluation")}
        budget = about["budget"]
        labels = cell.labels | {"rho_u": Bound(budget["norm"], budget["radius"])}
        return Record(
            format=FORMAT,
            key=cell.key,
            identity=as_json(cell.identity),
            **labels,
            test_accuracy=outcome.accuracy[outcome.chosen],
            protected_accuracy=_protected_accuracy(cell, outcome.model, harness),
            peak_accuracy=max(outcome.accuracy),
            epoch_accuracy=list(outcome.accuracy),
            train_accuracy=outcome.train_accuracy,
            poison=about,
            seconds=spent,
            resumed=resumed,
            peak_memory=peak_memory(self.device),
            classes=clean.classes,
            packed=self.packed,
            environment=self._environment,
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
        )

    def measure(self, probe: Probe) -> Robustness:
        """Measure the robustness of one poison, making it where there is none."""
        pixels, _ = self._poison(probe.poison)
        self._reset(probe.poison.seed)
        progress = _Labelled(probe.name, self.progress)
        harness = harness_of(probe.poison, self.folder, self.device, progress=progress)
        surrogate = self.folder.network(probe.poison.key)
        reference = self.folder.network(probe.reference_key)
        return measure(probe, pixels, harness, surrogate, reference, self._environment)

    def prepare(self, plan: PoisonPlan) -> None:
        """Make a poison that the folder should have and has not, unless another process does."""
        if self.folder.has_poison(plan.key):
            return
        # What goes wrong is told with each cell that needs it.
        with self.folder.claim(plan.key, wait=False) as mine, suppress(Exception, SystemExit):
            if mine:
                self._stored(plan)

    def _poison(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        """Return the poison and what is known of it: in hand, from the folder, or made now."""
        if self._held and self._held[0] == plan.key:
            return self._held[1:]
        with self.folder.claim(plan.key, wait=True, tick=self.progress.check):
            images, about = self._stored(plan)
        if "quality" not in about:  # of a version that did not measure it
            about |= {"quality": measure_quality(plan.data.train.images, images)}
        if about["quality"]["linf"]:
            self._write_samples(plan, images)
        self._held = (plan.key, images, about)
        return images, about

    def _write_samples(self, plan: PoisonPlan, images: Pixels) -> None:
        """Keep what reports show of a poison; costs no result if that cannot be written."""
        data = plan.data
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
        """Return the folder's poison, made now where there is none; needs the claim on it."""
        stored = self.folder.poison(plan.key)
        if stored:
            return stored
        images, about = self._generate(plan)
        trained = plan.attack.plugin.surrogate != "none"
        if trained or about["seconds"] >= CACHED_SECONDS:
            self.folder.write_poison(plan.key, images, about)
        self.folder.checkpoint(plan.key).unlink(missing_ok=True)
        return images, about

    def _generate(self, plan: PoisonPlan) -> tuple[Pixels, dict[str, Any]]:
        if plan.key in self.failed:
            raise self.failed[plan.key].again()
        self._reset(plan.seed)
        clean = plan.data.train
        state = self.folder.checkpoint(plan.key)
        resumed = state.exists()
        harness = self._harness(plan, state, plan.name)
        harness.surrogate = self.folder.network(plan.key)
        trajectory = Trajectory(self.folder.network(plan.trajectory_key).with_suffix(""))
        harness.trajectory = trajectory
        harness.declared = plan.attack.plugin.surrogate
        try:
            poison = plan.attack.plugin.generate(clean, harness)
            spent = harness.times.read()
            _check(plan.attack.name, clean.images, poison)
            _check_surrogate(plan.attack.name, harness)
            if plan.attack.plugin.fingerprint() != plan.identity["attack"].get("fingerprint"):
                raise UserError("what it reads changed meanwhile; run the command again")
        except (Exception, SystemExit) as error:
            # Not the error: its traceback would keep all that the method had on the device.
            self.failed[plan.key] = FailedPoison(reason(error), trace_of(error))
            raise
        return poison.images, {
            "key": plan.key,
            "identity": as_json(plan.identity),
            "sha256": hashlib.sha256(np.ascontiguousarray(poison.images).data).hexdigest(),
            "budget": {"norm": poison.budget.norm, "radius": _as_written(poison.budget.radius)},
            "quality": measure_quality(clean.images, poison.images),
            "notes": poison.notes,
            "warmup_seconds": spent.pop("warmup", 0.0),
            "seconds": sum(spent.values()) - spent.get("keeping", 0.0),
            "resumed": resumed or bool(trajectory.joined),
            "environment": self._environment,
        }

    def _harness(self, plan: PoisonPlan, state: Path | None, label: str) -> Harness:
        progress = _Labelled(label, self.progress)
        return harness_of(plan, self.folder, self.device, state, progress)

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


def harness_of(
    plan: PoisonPlan,
    folder: ResultsFolder,
    device: torch.device,
    state: Path | None = None,
    progress: Progress | None = None,
) -> Harness:
    """Return the harness in which a poison is made, and its surrogate is measured.

    Args:
        plan: of the poison.
        folder: where a surrogate trained on clean images is kept.
        device: the CPU or one GPU.
        state: where the state of loops is kept; None: nowhere.
        progress: where loops are shown; None: nowhere.
    """
    # fp32 is the reference: no TF32 in it.
    torch.backends.cuda.matmul.allow_tf32 = plan.precision != "fp32"
    torch.backends.cudnn.allow_tf32 = plan.precision != "fp32"
    return Harness(
        device=device,
        seed=plan.seed,
        precision=plan.precision,
        transform=plan.data.transform,
        learner=plan.surrogate.plugin,
        training=plan.training,
        images=plan.data.train,
        weights=folder.network(plan.clean_network_key),
        checkpoint=Checkpoint(state),
        progress=progress or Silent(),
        split_batches=True,  # noise is never packed
    )


@dataclass(frozen=True)
class FailedPoison:
    """Why a poison could not be made.

    Attributes:
        reason: one line.
        trace: the traceback, whole.
    """

    reason: str
    trace: str

    def again(self) -> UserError:
        """Return the error for a cell that needs the same poison; `trace_of` knows its origin."""
        error = UserError(self.reason)
        error.add_note(self.trace)
        return error


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
    return one_line(error)


def trace_of(error: BaseException) -> str:
    """Return the whole traceback of an error as text, and where it began."""
    return "".join(traceback.format_exception(error))


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


def _check_surrogate(name: str, harness: Harness) -> None:
    """Refuse an attack that declares a network and asked for none."""
    if harness.declared != "none" and harness.declared not in harness.asked:
        raise UserError(
            f'attack {name!r} declares surrogate = "{harness.declared}" (the default is "own") '
            f"and asked for {' and '.join(harness.asked) or 'no network'}; declare surrogate = "
            f'"{next(iter(harness.asked), "none")}", so that its results name no other network'
        )


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
    bounded = poison.budget.norm != "none"
    if (poison.budget.radius or not bounded) and np.array_equal(images, clean):
        within = f" within a radius of {poison.budget.radius}" if bounded else ""
        raise UserError(
            f"attack {name!r} changed no image{within}: "
            "`add_noise` takes noise in units of 1/255, and rounds to 8 bits"
        )


def _as_written(radius: Radius | float | None) -> str | float | None:
    return str(radius) if isinstance(radius, Radius) else radius
