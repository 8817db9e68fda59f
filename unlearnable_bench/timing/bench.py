"""Timing of attack and training steps on a device: `ubench bench`."""

import gc
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.contract import Learner
from unlearnable_bench.harness import Harness, input_gradient
from unlearnable_bench.harness.acceleration import acceleration, install
from unlearnable_bench.harness.device import own_stream, wait
from unlearnable_bench.harness.operations import forward_operations
from unlearnable_bench.images import ImageSet, Transform
from unlearnable_bench.planning import registry
from unlearnable_bench.radius import Radius
from unlearnable_bench.running.environment import (
    peak_memory,
    use_fast_path,
    use_reproducible_algorithms,
)
from unlearnable_bench.running.training import train
from unlearnable_bench.schedule import Training
from unlearnable_bench.timing.scales import Scale

if TYPE_CHECKING:
    from unlearnable_bench.schedule import Precision

_CLASSES, _SIZE = 10, 32
_TRANSFORM = Transform(4, flip=True)
_MIB = 1 << 20
WARM_STEPS = 4  # number of calls before a captured step is replayed


@dataclass(frozen=True)
class Measurement:
    """One row of the table.

    Attributes:
        job: name of the step.
        batch: batch size.
        cells: number of cells that ran it at the same time, each in its own thread.
        milliseconds: mean time of a step on the fast path; with several cells, wall time per step
            and cell.
        images_per_second: forward-and-backward passes of single images per second, over all cells.
        tflops: 10^12 operations per second; a backward pass counts as two forward passes.
        share: `tflops` as a share of the convolution ceiling of the same run.
        eager_ratio: time of a step of one cell in eager fp32 in the same run, divided by
            `milliseconds`.
        warmup_seconds: time of compilation and capture before the first timed step, over all cells.
        peak_memory_mib: peak of the GPU's allocator in MiB; on a CPU, of this process so far.
    """

    job: str
    batch: int
    cells: int
    milliseconds: float
    images_per_second: float
    tflops: float
    share: float
    eager_ratio: float
    warmup_seconds: float
    peak_memory_mib: float


@dataclass(frozen=True)
class Job:
    """A step to time.

    Attributes:
        name: name of the step.
        learner: the network.
        batch: batch size.
        passes: number of forward-and-backward passes of an image in one step.
        drive: runs a number of steps in a harness.
        packed: numbers of cells at the same time that are timed as well.
        splits: whether the fast path may split batches, as in attacks but not in training.
        size: height and width of the images in pixels.
        timed: share of the scale's steps that is timed, as few steps of large images are.
    """

    name: str
    learner: Learner
    batch: int
    passes: float
    drive: Callable[[Harness, int], None]
    packed: tuple[int, ...] = ()
    splits: bool = True
    size: int = _SIZE
    timed: float = 1

    @property
    def title(self) -> str:
        """Name and batch size, for messages."""
        return f"{self.name}, batch {self.batch}"


class _Stopwatch:
    """Progress that times a job's first loop, after its warm-up steps.

    Several cells share one stopwatch. They start and end their timed steps together, so that the
    time is that of the last cell.
    """

    def __init__(self, device: torch.device, cells: int) -> None:
        self._device = device
        self._stamps: list[float] = []
        self.together = threading.Barrier(cells, lambda: self._stamps.append(time.perf_counter()))

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        for step in steps:
            yield step
            # The last step is not timed, because training evaluates in it.
            if len(self._stamps) < 2 and step + 1 in (WARM_STEPS, total - 1):
                wait(self._device)
                self.together.wait()

    @property
    def milliseconds(self) -> float:
        started, ended = self._stamps
        return 1e3 * (ended - started)


def measure(
    device: torch.device,
    scale: Scale,
    ceiling: float,
    on_job: Callable[[str], None] = lambda _: None,
    without: Collection[str] = (),
) -> Iterator[Measurement]:
    """Time every job on the fast path and, in the same run, in eager fp32.

    Args:
        device: the CPU or one GPU.
        scale: sizes of the measurements.
        ceiling: result of `convolution_ceiling` in the same run.
        on_job: called with the title of the next job.
        without: techniques of the fast path to leave out.

    Yields:
        Each measurement as soon as it is finished.
    """
    use_fast_path(device, without)
    for job in jobs(scale):
        on_job(f"{job.title}, eager")
        repeats = max(2, int(job.timed * scale.repeats))
        eager = _time_eager(job, device, max(2, repeats // 6))
        operations = 2 * job.passes * forward_operations(job.learner, job.size, _CLASSES)
        for cells in (1, *job.packed):
            on_job(job.title if cells == 1 else f"{job.title}, {cells} cells")
            fast = time_job(job, device, repeats, cells)
            per_second = job.batch / fast.milliseconds * 1e3
            tflops = operations * per_second / 1e12
            yield Measurement(
                job=job.name,
                batch=job.batch,
                cells=cells,
                milliseconds=fast.milliseconds,
                images_per_second=per_second * job.passes,
                tflops=tflops,
                share=tflops / ceiling,
                eager_ratio=eager / fast.milliseconds,
                warmup_seconds=fast.warmup_seconds,
                peak_memory_mib=fast.peak_memory_mib,
            )


def jobs(scale: Scale) -> Iterator[Job]:
    """Yield the jobs that `measure` times."""
    learner = registry.learners.choose(scale.learner).plugin
    for batch in scale.gradient_batches:
        yield gradient_job(learner, batch)
    for job in (
        training_job(learner, scale.batch, Radius("0")),
        training_job(learner, scale.batch, Radius("4/255")),
    ):
        yield replace(job, packed=scale.packed)
    for name, options in scale.attacks.items():
        passed = options | {"batch_size": scale.batch}
        if name == "em":
            passed |= {"variant": "misaligned"}  # the variant with a fixed number of steps
        yield attack_job(learner, name, passed)
    if "sem" in scale.attacks:
        large = scale.attacks["sem"] | {"batch_size": scale.large_batch}
        yield replace(attack_job(learner, "sem", large, scale.large_size), timed=1 / 6)


def gradient_job(learner: Learner, batch: int, size: int = _SIZE) -> Job:
    """Return the job of input gradients for images of `size` pixels."""
    images = _images(batch, size)

    def drive(harness: Harness, steps: int) -> None:
        pixels, labels = harness.tensors(images)
        model, x = harness.network(images), harness.unit(pixels)

        def step(at: Tensor) -> Tensor:
            return input_gradient(model, at, labels)

        captured = harness.capture(step)
        for _ in harness.loop("steps", steps):
            captured(x)

    return Job("input gradient", learner, batch, 1, drive, size=size)


def training_job(learner: Learner, batch: int, rho_a: Radius, **options: int) -> Job:
    """Return the job of training steps; `options` are those of `Training`."""
    defense = registry.defenses.choose("none").plugin

    def drive(harness: Harness, steps: int) -> None:
        images = _images(batch * steps)  # one epoch, so that the last step evaluates
        schedule = Training(batch_size=batch, steps=steps, **options)  # type: ignore[arg-type]
        train(images, _images(batch), defense, rho_a, schedule, harness)

    pgd_steps = Training(**options).pgd_steps if rho_a else 0  # type: ignore[arg-type]
    name = f"training, PGD-{pgd_steps}" if rho_a else "standard training"
    return Job(name, learner, batch, pgd_steps + 1.5, drive, splits=False)


def attack_job(learner: Learner, name: str, options: dict[str, Any], size: int = _SIZE) -> Job:
    """Return the job of an attack's steps on images of `size` pixels.

    The attack has the option `steps`.
    """
    attack: Any = registry.attacks.choose(name, {}, options).plugin
    batch: int = options["batch_size"]
    costs = [replace(attack, steps=k).image_passes(batch) for k in (1, 2)]

    def drive(harness: Harness, steps: int) -> None:
        replace(attack, steps=steps).generate(_images(2 * batch, size), harness)

    # Tables of 32 px, such as that of `--dry-run --bench`, find their jobs by name.
    title = f"{name} step" if size == _SIZE else f"{name} step, {size} px"
    return Job(title, learner, batch, (costs[1] - costs[0]) / batch, drive, size=size)


@dataclass(frozen=True)
class Timing:
    """Time and memory of a job, with the fields of `Measurement`."""

    milliseconds: float
    warmup_seconds: float
    peak_memory_mib: float


def _time_eager(job: Job, device: torch.device, repeats: int) -> float:
    """Return the mean milliseconds of a job's steps in eager fp32 PyTorch, after warm-up."""
    present = acceleration(device)
    install(device.type, None)
    try:
        harness = Harness(device, 0, "fp32", _TRANSFORM, job.learner, eager=True)
        return _drive([harness], job, repeats).milliseconds
    finally:
        install(device.type, present)


def precision_of(device: torch.device) -> "Precision":
    """Return the arithmetic in which steps are timed on a device."""
    return "bf16" if device.type == "cuda" else "fp32"


def time_job(job: Job, device: torch.device, repeats: int, cells: int = 1) -> Timing:
    """Time a job's steps on the fast path after warm-up, in several cells at the same time."""
    harnesses = [
        Harness(device, 0, precision_of(device), _TRANSFORM, job.learner, split_batches=job.splits)
        for _ in range(cells)
    ]
    return _drive(harnesses, job, repeats)


def _drive(harnesses: list[Harness], job: Job, repeats: int) -> Timing:
    device, cells = harnesses[0].device, len(harnesses)
    if device.type == "cuda":
        torch.cuda.init()  # torch reports memory only after this
        gc.collect()  # otherwise memory of the last job counts
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        use_reproducible_algorithms()
        # Plain PyTorch may choose faster ones.
        torch.backends.cudnn.deterministic = harnesses[0].precision != "fp32"
    stopwatch = _Stopwatch(device, cells)

    def work(harness: Harness) -> None:
        harness.progress = stopwatch
        job.drive(harness, WARM_STEPS + repeats + 1)

    if cells == 1:  # in the main thread, which receives Ctrl-C
        work(harnesses[0])
    else:
        _in_threads(work, harnesses, stopwatch.together)
    return Timing(
        milliseconds=stopwatch.milliseconds / repeats / cells,
        warmup_seconds=sum(harness.times["warmup"] for harness in harnesses),
        peak_memory_mib=peak_memory(device) / _MIB,
    )


def _in_threads(
    work: Callable[[Harness], None], harnesses: list[Harness], together: threading.Barrier
) -> None:
    """Run each harness in its own thread and on its own stream, like packed cells."""

    def run_cell(number: int, harness: Harness) -> None:
        own_stream(harness.device, number)
        try:
            work(harness)
        except BaseException:
            together.abort()  # otherwise the others would wait forever
            raise

    with ThreadPoolExecutor(len(harnesses)) as pool:
        threads = [pool.submit(run_cell, k, harness) for k, harness in enumerate(harnesses, 1)]
    errors = [error for thread in threads if (error := thread.exception())]
    if errors:  # the error that broke the barrier of the others
        raise min(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError))


def _images(count: int, size: int = _SIZE) -> ImageSet:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return ImageSet(pixels, random.integers(0, _CLASSES, count), _CLASSES)


def convolution_ceiling(device: torch.device) -> float:
    """Return the rate in 10^12 operations per second of one large 3x3 convolution."""
    batch, channels, side = (1024, 256, 16) if device.type == "cuda" else (16, 64, 16)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device)
    layer = layer.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(batch, channels, side, side, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    operations = 2 * batch * side**2 * channels**2 * 9
    best = float("inf")
    with torch.no_grad():
        for _ in range(5):
            wait(device)
            started = time.perf_counter()
            for _ in range(10):
                layer(x)
            wait(device)
            best = min(best, (time.perf_counter() - started) / 10)
    return operations / best / 1e12
