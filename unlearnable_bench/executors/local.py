"""This process, or several on this machine."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec import structs

from unlearnable_bench.execution import Executor
from unlearnable_bench.options import option

if TYPE_CHECKING:
    from unlearnable_bench.running.executor import Summary
    from unlearnable_bench.running.work import Work


# Worker processes that no option asks for, and memory for each: a ResNet-18 takes 3 GiB.
_MOST, _BYTES = 8, 4 << 30


@dataclass(frozen=True, kw_only=True)
class Local(Executor):
    """This process, or several on the cores of this machine."""

    workers: int = option(1, "number of worker processes", minimum=1, maximum=1024)

    def described(self, device: str) -> str:
        """Return the number of workers and their device."""
        return device if self.workers == 1 else f"{self.workers} worker processes on {device}"

    def run(self, work: "Work") -> "Summary":
        """Compute the missing cells here, or in worker processes that share the cores."""
        if self.workers == 1:
            return work.here()
        from unlearnable_bench.running.pool import Seat, run_workers  # noqa: PLC0415 - loads torch
        from unlearnable_bench.running.threads import default_threads  # noqa: PLC0415

        # More threads than cores slow all of them down many times.
        threads = work.job.threads or max(1, default_threads() // self.workers)
        job = structs.replace(work.job, threads=threads)
        seats = [Seat(f"worker {number}") for number in range(self.workers)]
        return run_workers(replace(work, job=job), seats)


def usual_workers(cells: int) -> Local | None:
    """Return the worker processes of a run on a CPU whose options say nothing about them.

    The small networks that a CPU trains do not gain from several threads, so each cell has a share
    of them (docs/performance.md).

    Args:
        cells: number of cells of the plan, finished or not: when it is run again, the same number
            of threads gives the same results.

    Returns:
        One worker per thread, at most 8, one per cell and one per 4 GiB of memory; None: this
        process computes.
    """
    from unlearnable_bench.running.threads import default_threads  # noqa: PLC0415 - loads torch

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    workers = min(cells, default_threads(), _MOST, memory // _BYTES)
    return Local(workers=workers) if workers > 1 else None
