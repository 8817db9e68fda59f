"""Timing of the work on a whole set that surrounds the steps of a method."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from unlearnable_bench.harness import Random
from unlearnable_bench.harness.device import wait
from unlearnable_bench.images import ImageSet, chunks, sha256_of
from unlearnable_bench.poison import Budget, Poison
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.samples import measure_quality
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.timing.scales import Scale

_RADIUS = Radius("8/255")
_KEY = 32 * "0"
_REPEATS = 3
_MIB = 1 << 20


@dataclass(frozen=True)
class SetMeasurement:
    """One row of the table of work on a whole set.

    Attributes:
        job: name of the work.
        images: number of images.
        size: height and width of the images in pixels.
        seconds: median time.
        mb_per_second: 10^6 bytes of images per second.
        host_memory_mib: peak of the process's memory beyond what it held before, in MiB; None if
            the system does not report it.
        gpu_memory_mib: peak of the GPU's allocator in MiB; None on a CPU.
    """

    job: str
    images: int
    size: int
    seconds: float
    mb_per_second: float
    host_memory_mib: float | None
    gpu_memory_mib: float | None


def measure_set(
    device: torch.device, scale: Scale, on_job: Callable[[str], None] = lambda _: None
) -> Iterator[SetMeasurement]:
    """Time what a run does once with all images: drawing, adding, checking, hashing, saving.

    Args:
        device: the CPU or one GPU, on which noise is drawn and from which it is added.
        scale: number and size of the images.
        on_job: called with the name of the next work.

    Yields:
        Each measurement as soon as it is finished.

    Raises:
        DiskError: the folder for temporary files has too little space.
    """
    images = _random_images(scale.set_images, scale.set_size)
    with tempfile.TemporaryDirectory(prefix="ubench-") as home:
        for job, work in _works(images, device, Path(home)).items():
            on_job(f"{job}, {len(images):,} images of {images.size} px")
            yield _measured(job, work, images, device)


def _works(images: ImageSet, device: torch.device, home: Path) -> dict[str, Callable[[], object]]:
    """Return the pieces of work by name, each as a run does it."""
    clean, levels = images.images, _RADIUS.levels
    shape = (len(images), 3, images.size, images.size)
    noise = torch.randint(-levels, levels + 1, shape, dtype=torch.int8, device=device)
    poison = Poison.from_noise(images, noise, _RADIUS).images
    folder = ResultsFolder(home / "results", create=True)
    metadata = {"key": _KEY, "sha256": sha256_of(poison)}

    def draw() -> None:
        parts = list(chunks(clean))
        stream = Random(0, "noise", device)
        for _ in stream.integer_blocks(2 * levels + 1, *clean.shape, parts=parts):
            pass

    def save() -> None:
        folder.poison_path(_KEY).unlink(missing_ok=True)
        folder.write_poison(_KEY, poison, metadata)

    return {
        "drawing noise": draw,
        "adding noise": lambda: Poison.from_noise(images, noise, _RADIUS),
        "checking the budget": lambda: Budget("linf", _RADIUS).excess(clean, poison),
        "measuring image quality": lambda: measure_quality(clean, poison),
        "hashing": lambda: sha256_of(poison),
        "saving a poison": save,
        "reading a poison": lambda: folder.poison(_KEY),
    }


def _measured(
    job: str, work: Callable[[], object], images: ImageSet, device: torch.device
) -> SetMeasurement:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.init()  # torch reports memory only after this
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    work()  # loads what the first call needs
    before = _restart_peak()
    times = []
    for _ in range(_REPEATS):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - started)
    peak = None if before is None else _status("VmHWM")
    seconds = median(times)
    return SetMeasurement(
        job=job,
        images=len(images),
        size=images.size,
        seconds=seconds,
        mb_per_second=images.images.nbytes / seconds / 1e6,
        host_memory_mib=None if before is None or peak is None else (peak - before) / _MIB,
        gpu_memory_mib=torch.cuda.max_memory_allocated(device) / _MIB if on_gpu else None,
    )


def _restart_peak() -> int | None:
    """Let the peak of this process's memory begin again at what it holds, in bytes.

    Returns:
        What it holds; None if the system cannot do that.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux, man 5 proc
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """Return a size that Linux reports of this process, in bytes; None if it does not."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * int(found[name].split()[0]) if name in found else None


def _random_images(count: int, size: int) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return ImageSet(pixels, np.arange(count) % 10, 10)
