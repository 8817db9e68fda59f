"""Detection of poisons by networks that are trained on a part of them and tested on the rest.

Zhu et al., AAAI 2024 (https://arxiv.org/abs/2312.08898): labels of poisoned images are easier to
predict than those of clean ones. Simple networks (Algorithm 1) reach an accuracy on held-out
poisoned images that they cannot reach on clean ones. A network whose training images are shifted
by a constant (Algorithm 2) still recognises the noise on images that are not, but no clean images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearnable_bench.contract import Defense, Learner
from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness, Random
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.progress import Labelled, Progress, Silent
from unlearnable_bench.identity import as_json, key_of
from unlearnable_bench.images import Data, ImageSet, Pixels, Transform, centre, sha256_of
from unlearnable_bench.options import option
from unlearnable_bench.planning.plan import Cell
from unlearnable_bench.planning.registry import Chosen
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.detection import DETECTIONS, Detection
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import interruption
from unlearnable_bench.running.environment import describe, plain_torch, use_algorithms
from unlearnable_bench.running.training import train
from unlearnable_bench.running.worker import Worker
from unlearnable_bench.schedule import Precision, Training
from unlearnable_bench.stop import Stop, StoppedError

# That of the authors' code.
TRAINING = Training(batch_size=128, steps=None, epochs=100, lr=0.01, schedule="late-steps")
SHIFT = 0.5  # in units of the pixel range
_HELD_OUT = 0.2  # share of the images


@dataclass(frozen=True)
class Test:
    """One way to tell a poison from clean images.

    Attributes:
        name: name in tables, with what differs from the usual form in brackets.
        learner: the network.
        training: its schedule.
        precision: its arithmetic.
        augmented: whether training images are cropped and flipped at random.
        shift: added to each value of the training images, in units of the pixel range.
        seed: seed of the held-out images and of training.
    """

    __test__ = False  # it is no test of pytest

    name: str
    learner: Chosen[Learner]
    training: Training
    precision: Precision = "fp32"
    augmented: bool = False
    shift: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Suspect:
    """The images of one poison, or the clean ones.

    Attributes:
        name: name in progress and messages.
        sha256: SHA-256 of the poisoned training images.
        poison: key of the poison.
        data: the data set.
        cell: a cell of it, by which it can be made again; None: its file is there, or the images
            are the clean ones.
    """

    name: str
    sha256: str
    poison: str
    data: Data
    cell: Cell | None = None


@dataclass(frozen=True)
class Examined:
    """A test of a poison."""

    suspect: Suspect
    test: Test

    @property
    def name(self) -> str:
        """Name in progress and messages."""
        return f"{self.suspect.name}, {self.test.name}"

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the result."""
        data, test = self.suspect.data, self.test
        return {
            "images": self.suspect.sha256,
            "data": data.sha256,
            "transform": list(data.transform),
            "test": test.name,
            "network": test.learner.identity(),
            "training": test.training.option_values(),
            "precision": test.precision,
            "augmented": test.augmented,
            "shift": test.shift,
            "held_out": _HELD_OUT,
            "seed": test.seed,
        }

    @property
    def key(self) -> str:
        """The address of the result in a results folder."""
        return key_of(self.identity)


@dataclass(frozen=True, kw_only=True)
class _Shifted(Defense):
    """Training images shifted by a constant, not clipped."""

    needs = "nothing"

    shift: float = option(0.0, "what is added to each value, in units of the pixel range")

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Shift the images."""
        return x + self.shift, y


OnDone = Callable[[Examined, Detection, bool], None]


@plain_torch()
def measure(
    work: Sequence[Examined],
    folder: ResultsFolder,
    device: torch.device,
    progress: Progress | None = None,
    on_done: OnDone = lambda _item, _found, _now: None,
) -> list[Detection]:
    """Return the results of measurements, made now if the folder lacks them.

    An interrupted one resumes. Poisons of which no file is kept are generated again.

    Args:
        work: the measurements, those of one poison next to each other.
        folder: results folder, read and written.
        device: the CPU or a GPU.
        progress: display of the loops; None: not shown.
        on_done: called with each measurement, its result, and whether it was made now.

    Raises:
        UserError: a poison that cannot be read or made again here.
        Interrupted: Ctrl-C, or a signal of the command; the state is written.
    """
    use_algorithms(device)
    stop, shown = Stop(), progress or Silent()
    worker = Worker(folder, device, shown, stop)
    results = []
    with interruption.postponed(stop) as saved:
        for item in work:
            key = item.key
            with folder.claim(key, wait=True, tick=stop.check, what=item.name):
                found = DETECTIONS.settle(folder.path, key)
                now = found is None
                if found is None:
                    try:
                        pixels = _pixels(item.suspect, folder, worker)
                        with stop.storing():
                            found = _measured(item, pixels, folder, device, shown, stop)
                            DETECTIONS.write(folder.path, found)
                    except StoppedError as stopped:
                        saved.extend(filter(None, [str(stopped)]))
                        raise
                    folder.checkpoint(key).unlink(missing_ok=True)
            on_done(item, found, now)
            results.append(found)
    return results


def _pixels(suspect: Suspect, folder: ResultsFolder, worker: Worker) -> Pixels:
    """Return the poisoned training images, from the folder, or generated now.

    Raises:
        UserError: the images are not those of the records.
    """
    cell = suspect.cell
    if cell:
        images, _ = worker.poison(cell.poison)
    elif stored := folder.poison(suspect.poison):
        images = stored[0]
    else:
        images = suspect.data.train.images
    if sha256_of(images) != suspect.sha256:
        raise UserError(
            f"{suspect.name}: the images here are not those of its records; make it on the device "
            "and with the versions of the records, or run its cells again in another folder"
        )
    return images


def _measured(
    item: Examined,
    pixels: Pixels,
    folder: ResultsFolder,
    device: torch.device,
    progress: Progress,
    stop: Stop,
) -> Detection:
    test, data = item.test, item.suspect.data
    harness = Harness(
        device,
        test.seed,
        test.precision,
        data.transform,
        test.learner.plugin,
        checkpoint=Checkpoint(folder.checkpoint(item.key)),
        progress=Labelled(item.name, progress),
        stop=stop,
    )
    accuracy, train_accuracy, held_out = detect(data.train.replaced(pixels), test, harness)
    return Detection(
        key=item.key,
        identity=as_json(item.identity),
        images=item.suspect.sha256,
        test=test.name,
        accuracy=accuracy,
        train_accuracy=train_accuracy,
        held_out=held_out,
        seconds=sum(harness.times.read().values()),
        environment=describe(device),
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def detect(images: ImageSet, test: Test, harness: Harness) -> tuple[float, float, int]:
    """Train a network on four fifths of the images, a seeded choice, and test it on the others.

    Args:
        images: the (poisoned) training images, two or more.
        test: the network and its training.
        harness: device, precision, seed, the data set's transformation, and `test.learner`.

    Returns:
        Accuracy in percent on the held-out images, that on the others, and the number of held-out
        images.

    Raises:
        UserError: a single image, or the weights became infinite or NaN.
    """
    if len(images) < 2:
        raise UserError("one training image cannot be split; give data with five or more")
    order = Random(test.seed, "held-out images").permutation(len(images)).numpy()
    held_out = max(1, round(_HELD_OUT * len(images)))
    if not test.augmented:
        part = centre(images.size, harness.transform.view(images.size))
        images = images.replaced(images.images[:, part, part])
        harness = replace(harness, transform=Transform(pad=0, flip=False))
    outcome = train(
        images.subset(np.sort(order[held_out:])),
        images.subset(np.sort(order[:held_out])),
        _Shifted(shift=test.shift),
        Radius("0"),
        test.training,
        harness,
    )
    return outcome.accuracy[-1], outcome.train_accuracy, held_out
