"""This process, or several on this machine."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec import structs

from unlearnable_bench.execution import Executor
from unlearnable_bench.options import option

if TYPE_CHECKING:
    from unlearnable_bench.running.executor import Summary
    from unlearnable_bench.running.work import Work


@dataclass(frozen=True, kw_only=True)
class Local(Executor):
    """This process, or several on the cores of this machine."""

    workers: int = option(1, "number of worker processes", minimum=1, maximum=1024)

    def described(self, device: str) -> str:
        """Return the number of workers and their device."""
        return device if self.workers == 1 else f"{self.workers} worker processes, each on {device}"

    def run(self, work: "Work") -> "Summary":
        """Compute the missing cells here, or in worker processes that share the cores."""
        if self.workers == 1:
            return work.here()
        from unlearnable_bench.running.pool import Seat, run_workers  # noqa: PLC0415 - loads torch
        from unlearnable_bench.running.threads import usable_cores  # noqa: PLC0415

        # More threads than cores slow all of them down many times.
        threads = work.job.threads or max(1, usable_cores() // self.workers)
        job = structs.replace(work.job, threads=threads)
        seats = [Seat(f"worker {number}") for number in range(self.workers)]
        return run_workers(replace(work, job=job), seats)
