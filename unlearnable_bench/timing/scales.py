"""Sizes of the measurements of `ubench bench`, for a GPU and for a CPU."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scale:
    """Sizes of the measurements.

    Attributes:
        learner: name of the network.
        gradient_batches: batch sizes of the input gradient.
        batch: batch size of training and noise steps.
        attacks: options by attack; each attack must have `steps` and `batch_size`.
        packed: numbers of cells that train at the same time on the device.
        growth: values of each parameter in `grow`; on a GPU each new shape needs seconds of
            compilation.
        repeats: number of timed steps of the fast path; a sixth of it for the eager path.
        large_batch: batch size of a noise step on large images.
        large_size: their height and width in pixels.
        set_images: number of images of the work on a whole set.
        set_size: their height and width in pixels.
    """

    learner: str
    gradient_batches: tuple[int, ...]
    batch: int
    attacks: dict[str, dict[str, Any]]
    packed: tuple[int, ...]
    growth: dict[str, tuple[int, ...]]
    repeats: int
    large_batch: int
    large_size: int
    set_images: int
    set_size: int


GPU_SCALE = Scale(
    learner="resnet18",
    gradient_batches=(128, 256, 640, 1024),
    batch=128,
    attacks={"sem": {}, "rem": {}, "em": {}},
    packed=(2, 3),
    growth={
        "sem.samples": (1, 2, 5, 10),
        "sem.noise_steps": (5, 10, 20),
        "training.pgd_steps": (5, 10, 20),
        "image size": (32, 64, 128, 224),
        "small-cnn.width": (64, 128, 256, 512),
        "images": (5_000, 10_000, 25_000, 50_000),
    },
    repeats=30,
    large_batch=32,
    large_size=224,
    set_images=2_600,
    set_size=256,
)
_SHORT = {"noise_steps": 2, "samples": 2, "attack_steps": 2}
CPU_SCALE = Scale(
    learner="small-cnn",
    gradient_batches=(32, 64),
    batch=32,
    attacks={"sem": _SHORT, "rem": _SHORT, "em": {"noise_steps": 2}},
    packed=(2,),
    growth={
        "sem.samples": (1, 2, 4),
        "sem.noise_steps": (1, 2, 4),
        "training.pgd_steps": (1, 2, 4),
        "image size": (16, 32, 64),
        "small-cnn.width": (8, 16, 32),
        "images": (320, 640, 1280),
    },
    repeats=12,
    large_batch=8,
    large_size=64,
    set_images=260,
    set_size=256,
)
