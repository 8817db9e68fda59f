"""AutoAttack on a kept learner, by the package of its authors.

Croce & Hein, ICML 2020 (https://arxiv.org/abs/2003.01690), version "standard": each attack sees
the images that all attacks before it have left.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness, Network, Random
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.harness.weights import digest
from unlearnable_bench.identity import as_json, key_of
from unlearnable_bench.images import Data
from unlearnable_bench.planning.registry import Chosen, learners
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.autoattack import ROBUST_ACCURACIES, RobustAccuracy
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import interruption
from unlearnable_bench.running.environment import (
    describe,
    plain_torch,
    use_reproducible_algorithms,
)
from unlearnable_bench.running.learners import read_learner
from unlearnable_bench.stop import Stop, StoppedError

QUERIES = 5000  # of the Square attack, as in the standard version
_PACKAGE = "pyautoattack"
_BATCH = 250
_TOLERANCE = 1e-6  # of float32 sums x + noise
_MASKED = 0.2  # percentage points


@dataclass(frozen=True)
class Attacked:
    """A kept learner and the attack on it.

    Attributes:
        record: record of the learner's cell.
        learner: the architecture.
        weights: its weights.
        data: the data set of the cell.
        rho: L-infinity radius of the attack.
        images: number of test images.
        seed: seed of the choice of images and of the attacks.
    """

    record: Record
    learner: Chosen[Any]
    weights: Mapping[str, Tensor]
    data: Data
    rho: Radius
    images: int
    seed: int

    @property
    def attacks(self) -> tuple[str, ...]:
        """Names of the attacks; the targeted DLR loss is defined from four classes on."""
        targeted = ("apgd-t",) if self.data.test.classes > 3 else ()
        return ("apgd-ce", *targeted, "fab-t", "square")

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the result."""
        return {
            "cell": self.record.key,
            "weights": digest(self.weights),
            "data": self.data.sha256,
            "rho": self.rho,
            "images": self.images,
            "seed": self.seed,
            "attacks": list(self.attacks),
            "queries": QUERIES,
            "package": f"{_PACKAGE} {version(_PACKAGE)}",
        }


def require_package() -> None:
    """Refuse to work without the extra package.

    Raises:
        UserError: how to install it.
    """
    try:
        import_module(_PACKAGE)
    except ImportError as error:
        raise UserError(
            f"AutoAttack needs the package {_PACKAGE}; install it: "
            "pip install 'unlearnable-bench[autoattack]'"
        ) from error


def find_cell(folder: ResultsFolder, key: str) -> Record:
    """Return the record of the cell with a kept learner whose key begins so.

    Raises:
        UserError: none or several such cells, or its learner is not kept.
    """
    found = [record for record in folder.sound_records() if key and record.key.startswith(key)]
    listed = f"`ubench learners {folder.path}` prints the keys"
    if len(found) != 1:
        many = f"{len(found)} cells of {folder.path} have" if found else f"{folder.path} has no"
        what = "keys that begin with" if found else "cell with the key"
        raise UserError(f"{many} {what} {key!r}; {listed}")
    if not folder.learner(found[0].key).exists():
        raise UserError(
            f"the learner of cell {found[0].key} is not kept; move its record out of "
            f"{folder.path}/cells and run again with --keep-learners; {listed}"
        )
    return found[0]


def attacked(
    folder: ResultsFolder, record: Record, data: Data, rho: Radius, images: int, seed: int
) -> Attacked:
    """Return a kept learner with the attack on it, checked before any work.

    Args:
        folder: the results folder.
        record: record of its cell.
        data: the data set.
        rho: L-infinity radius, above 0.
        images: number of test images; at most all of them.
        seed: seed of the choice of images and of the attacks.

    Raises:
        UserError: a radius of 0, other data than the cell's, or another version or other code of
            its learner.
    """
    if not rho:
        raise UserError("--rho 0 is no attack; give a radius such as 8/255")
    if data.sha256 != record.identity["poison"]["data"]:
        raise UserError(
            f"{data.name} is not the data of cell {record.key} ({record.dataset}); give that with "
            "--dataset and --set"
        )
    about = record.identity["learner"]
    learner = learners.choose(about["name"], about["options"])
    if learner.plugin.version != about["version"]:
        raise UserError(
            f"cell {record.key} was trained with version {about['version']} of {about['name']}, "
            f"here it is {learner.plugin.version}; train it again"
        )
    own = learner.identity()
    if any(own.get(name) != about.get(name) for name in ("source", "package")):
        raise UserError(
            f"cell {record.key} was trained with other code of {about['name']}; give the plugin as "
            "it was, or train it again"
        )
    weights, _ = read_learner(folder.learner(record.key))
    return Attacked(record, learner, weights, data, rho, min(images, len(data.test)), seed)


@plain_torch()
def measure(
    work: Attacked, folder: ResultsFolder, device: torch.device, progress: Progress | None = None
) -> tuple[RobustAccuracy, bool]:
    """Return the robust accuracy of a learner under AutoAttack, and whether it was measured now.

    A finished measurement is read from the folder. An interrupted one resumes.

    Args:
        work: the learner and the attack.
        folder: results folder, read and written.
        device: the CPU or a GPU.
        progress: display of the loops; None: not shown.

    Raises:
        UserError: the weights do not fit the learner, or a file cannot be read.
        Interrupted: Ctrl-C, or a signal of the command; the state is written.
    """
    key, stop = key_of(work.identity), Stop()
    with interruption.postponed(stop) as saved, folder.claim(key, wait=True, tick=stop.check):
        if found := ROBUST_ACCURACIES.settle(folder.path, key):
            return found, False
        use_reproducible_algorithms()
        harness = Harness(
            device,
            work.seed,
            "fp32",
            work.data.transform,
            work.learner.plugin,
            checkpoint=Checkpoint(folder.checkpoint(key)),
            progress=progress or Silent(),
            stop=stop,
        )
        try:
            with stop.storing():
                found = _measured(work, key, harness)
                ROBUST_ACCURACIES.write(folder.path, found)
        except StoppedError as stopped:
            saved.extend(filter(None, [str(stopped)]))
            raise
        folder.checkpoint(key).unlink(missing_ok=True)
    return found, True


def _measured(work: Attacked, key: str, harness: Harness) -> RobustAccuracy:
    model = _network(work, harness.device)
    order = Random(work.seed, "autoattack images").permutation(len(work.data.test)).numpy()
    pixels, labels = harness.tensors(work.data.test.subset(order[: work.images]))
    x = harness.unit(pixels).contiguous()  # the package views gradients as flat
    with _warnings() as warnings, torch.random.fork_rng(devices=_devices(harness.device)):
        after = robust_after(model, x, labels, work, harness)
    clean, *rest = after.values()
    if len(rest) > 1 and rest[-1] < rest[-2] - _MASKED:
        warnings.append(
            f"Square, which uses no gradients, lowers the accuracy by {rest[-2] - rest[-1]:.1f} "
            "points: the gradients may be masked"
        )
    return RobustAccuracy(
        key=key,
        identity=as_json(work.identity),
        cell=work.record.key,
        rho=str(work.rho),
        images=work.images,
        clean_accuracy=clean,
        robust_accuracy=rest[-1],
        after={name: value for name, value in after.items() if name != "clean"},
        warnings=list(dict.fromkeys(warnings)),
        seconds=sum(harness.times.read().values()),
        environment=describe(harness.device),
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def robust_after(
    model: Network, x: Tensor, y: Tensor, work: Attacked, harness: Harness
) -> dict[str, float]:
    """Return the accuracy in percent on clean images ("clean"), and after each attack.

    Args:
        model: maps images in [0, 1] to logits, in eval mode.
        x: images, float [N, 3, H, W] in [0, 1].
        y: labels, int64 [N].
        work: radius, seed and attacks.
        harness: loops and their checkpoint.
    """
    attacks = _attacks(model, work, harness.device)
    robust = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for start in range(0, len(x), _BATCH):
        part = slice(start, start + _BATCH)
        with torch.no_grad():
            robust[part] = model(x[part]).argmax(1) == y[part]
    # Those that an attack starts with, and how many each attack leaves.
    before, left = robust.clone(), torch.zeros(len(attacks), dtype=torch.int64, device=x.device)
    found = {"clean": 100 * int(robust.sum()) / len(x)}
    harness.keep(robust=robust, before=before, left=left)
    for number, (name, attack) in enumerate(attacks.items()):
        if not harness.checkpoint.done(name):
            before.copy_(robust)
        index = before.nonzero().flatten()
        for k in harness.loop(name, -(-len(index) // _BATCH)):
            batch = index[k * _BATCH : (k + 1) * _BATCH]
            attack.seed = work.seed
            with torch.no_grad():
                adversarial = attack.perturb(x[batch].clone(), y[batch].clone())
                inside = (adversarial - x[batch]).abs().flatten(1).amax(1)
                allowed = inside <= float(work.rho) + _TOLERANCE
                allowed &= adversarial.flatten(1).aminmax(dim=1).min >= 0
                allowed &= adversarial.flatten(1).aminmax(dim=1).max <= 1
                fooled = allowed & (model(adversarial).argmax(1) != y[batch])
            robust[batch[fooled]] = False
            left[number] = robust.sum()
        found[name] = 100 * int(left[number]) / len(x)
    return found


def _attacks(model: Network, work: Attacked, device: torch.device) -> dict[str, Any]:
    """Return the attacks of the standard version by name."""
    whole = import_module(_PACKAGE).AutoAttack(
        model, norm="Linf", eps=float(work.rho), seed=work.seed, device=device
    )
    whole.apgd.loss, whole.fab.targeted, whole.square.n_queries = "ce", True, QUERIES
    most = work.data.test.classes - 1
    for targeted in (whole.apgd_targeted, whole.fab):
        targeted.n_target_classes = min(targeted.n_target_classes, most)
    parts = (whole.apgd, whole.apgd_targeted, whole.fab, whole.square)
    named = dict(zip(("apgd-ce", "apgd-t", "fab-t", "square"), parts, strict=True))
    return {name: named[name] for name in work.attacks}


def _network(work: Attacked, device: torch.device) -> Network:
    """Return the learner with its weights, in eval mode."""
    network = work.learner.plugin.build(work.data.test.classes, work.data.test.size)
    try:
        network.load_state_dict(work.weights)
    except RuntimeError as error:
        reason = str(error).split("\n")[1].strip()
        raise UserError(
            f"the kept learner of cell {work.record.key} does not fit {work.learner.name}: {reason}"
        ) from error
    layout = torch.contiguous_format
    return Network(network.to(device, torch.float32), bf16=False, layout=layout).eval()


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what the package logs as warnings."""
    logger, lines = logging.getLogger("auto-attack"), list[str]()
    handler, propagated = _Collector(lines), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
