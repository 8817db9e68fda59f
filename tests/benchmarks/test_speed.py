"""The jobs of `ubench bench` under pytest-benchmark: `pytest -m benchmark tests/benchmarks`.

It compares with earlier runs (`--benchmark-autosave`, `--benchmark-compare`) and says how
far rounds differ; `ubench bench` compares with eager PyTorch and with the device's limits.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from unlearnable_bench.running.environment import describe, pick_device
from unlearnable_bench.timing.bench import Job, jobs, time_job
from unlearnable_bench.timing.scales import CPU_SCALE, GPU_SCALE

DEVICE = pick_device(None)
SCALE = GPU_SCALE if DEVICE.type == "cuda" else CPU_SCALE


class Clock:
    """Goes while a job's warm steps are timed, and stands still in its warm-up."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


CLOCK = Clock()


@pytest.mark.filterwarnings("default")  # compilers warn about what is not ours
@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(
    ("job", "cells"),
    [
        pytest.param(job, cells, id=f"{job.title}, {cells} cells")
        for job in jobs(SCALE)
        for cells in (1, *job.packed)
    ],
)
def test_step(benchmark: BenchmarkFixture, job: Job, cells: int) -> None:
    def step() -> None:
        repeats = max(2, int(job.timed * SCALE.repeats))
        CLOCK.seconds += time_job(job, DEVICE, repeats, cells).milliseconds / 1e3

    benchmark.extra_info["environment"] = describe(DEVICE)
    benchmark.pedantic(step, rounds=3)
