"""Small networks, small images and interruptions, for the tests that need them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unlearnable_bench import (
    Harness,
    ImageSet,
    Learner,
    Radius,
    ResizedCrop,
    Transform,
    make_plan,
)
from unlearnable_bench.datasets.npz import write_npz
from unlearnable_bench.images import Data
from unlearnable_bench.learners import Normalise
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.schedule import Precision


class Gain(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


@dataclass(frozen=True, kw_only=True)
class Tiny(Learner):
    """Convolution, BatchNorm, ReLU, pooling, linear layer; keeps the modules that it built."""

    gain: float = 4.0
    built: list[nn.Module] = field(default_factory=list)

    def build(self, classes: int, size: int) -> nn.Module:
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * (size // 2) ** 2, classes),
            Gain(self.gain),
        )
        self.built.append(network)
        return network


@dataclass(frozen=True, kw_only=True)
class Pooled(Learner):
    """Convolution, BatchNorm, ReLU, pooling to four features a quarter, linear layer."""

    def build(self, classes: int, size: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, classes),
        )


@dataclass(frozen=True, kw_only=True)
class Centred(Tiny):
    """`Tiny` that subtracts 0.5 first, as the built-in learners do."""

    def build(self, classes: int, size: int) -> nn.Module:
        return nn.Sequential(Normalise(), super().build(classes, size))


@dataclass(frozen=True, kw_only=True)
class Linear(Learner):
    """No BatchNorm: with learning rate 0, an image's noise depends on nothing but itself."""

    def build(self, classes: int, size: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes), Gain(10.0))


def random_images(count: int = 25, size: int = 8, classes: int = 3, seed: int = 0) -> ImageSet:
    """Return noise in which about a fifth of the values is black and a fifth is white."""
    generator = np.random.default_rng(seed)
    values = generator.integers(-110, 366, (count, size, size, 3))
    labels = generator.integers(classes, size=count)
    return ImageSet(np.clip(values, 0, 255).astype(np.uint8), labels.astype(np.int64), classes)


def small_data(train: int = 12, test: int = 6, size: int = 16) -> Data:
    """Return random images of three classes, one of them of a name beyond ASCII."""
    random = np.random.default_rng(0)

    def split(count: int) -> ImageSet:
        images = random.integers(256, size=(count, size, size, 3)).astype(np.uint8)
        return ImageSet(images, np.arange(count) % 3, 3)

    return Data("small", split(train), split(test), ("a", "b", "ç"), Transform(2, flip=True))


def make_harness(
    precision: Precision = "fp64",
    *,
    seed: int = 0,
    pad: int = 2,
    flip: bool = True,
    learner: Learner | None = None,
    crop: int | None = None,
) -> Harness:
    transform = Transform(pad, flip) if crop is None else ResizedCrop(crop, flip)
    return Harness(torch.device("cpu"), seed, precision, transform, learner or Tiny())


class Interruption(Exception):  # noqa: N818 - it stands for a killed process
    pass


@dataclass
class Interrupting:
    """Progress that stops the work before one step of one loop."""

    label: str
    before: int

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        assert self.before < total or label != self.label
        for step in steps:
            if (label, step) == (self.label, self.before):
                raise Interruption
            yield step


def four_cells(folder: Path) -> Plan:
    """Return a plan of four cells of a second each: clean and random at two radii."""
    write_npz(small_data(), folder / "d.npz")
    return make_plan(
        methods=["random"],
        dataset=f"npz:{folder / 'd.npz'}",
        settings={"training.epochs": "1", "small-cnn.width": "4"},
        rho_a=[Radius("0"), Radius("1/255")],
    )


def accuracies(out: Path) -> dict[str, list[float]]:
    return {record.key: record.epoch_accuracy for record in ResultsFolder(out).records()}
