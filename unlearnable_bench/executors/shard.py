"""One worker process, which shares each noise generation with several GPUs of this machine."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec import structs

from unlearnable_bench.errors import UserError
from unlearnable_bench.execution import Executor
from unlearnable_bench.executors.gpus import Card, visible_cards
from unlearnable_bench.options import option

if TYPE_CHECKING:
    from unlearnable_bench.running.executor import Summary
    from unlearnable_bench.running.work import Work


@dataclass(frozen=True, kw_only=True)
class Shard(Executor):
    """Noise generations that are divided among several GPUs of this machine."""

    cards: int = option(
        2,
        "number of GPUs, or of processes on the CPU, that divide each batch of a noise generation",
        minimum=1,
        maximum=64,
    )
    on_cpu: bool = option(False, "processes on the CPU instead of GPUs, as with --device cpu")

    def worker_device(self) -> str | None:
        """Return `cuda`: each process sees one card."""
        return None if self.on_cpu else "cuda"

    def check(self) -> None:
        """Refuse a machine with fewer GPUs that are not in use."""
        if not self.on_cpu:
            self._chosen()

    def described(self, device: str) -> str:
        """Return the cards."""
        if self.on_cpu:
            return f"{self.cards} processes share divisible noise generations, each on {device}"
        cards = ", ".join(map(str, self._chosen()))
        return f"{self.cards} GPUs share divisible noise generations: {cards}"

    def run(self, work: "Work") -> "Summary":
        """Compute the missing cells in one worker process, which starts the others."""
        from unlearnable_bench.running.pool import Seat, run_workers  # noqa: PLC0415 - loads torch
        from unlearnable_bench.running.threads import usable_cores  # noqa: PLC0415

        attacks = {item.poison.attack.name: item.poison.attack.plugin for item in work.plan.work}
        names = [
            name
            for name, plugin in sorted(attacks.items())
            if not plugin.shardable and plugin.surrogate != "none"
        ]
        if names:
            work.screen.warn(
                f"{', '.join(names)}: made by one process; these methods do not divide "
                "their batches (--shard)"
            )
        shards = [""] * self.cards if self.on_cpu else [card.uuid for card in self._chosen()]
        threads = work.job.threads or max(1, usable_cores() // self.cards)
        job = structs.replace(work.job, threads=threads, shards=tuple(shards))
        seat = Seat("shard", {} if self.on_cpu else {"CUDA_VISIBLE_DEVICES": shards[0]})
        return run_workers(replace(work, job=job), [seat])

    def _chosen(self) -> list[Card]:
        """Return the cards: the first that are not in use.

        Raises:
            UserError: there are fewer.
        """
        found = visible_cards()
        free = [card for card in found if not card.busy]
        if len(free) < self.cards:
            cards = ", ".join(map(str, found)) or "no GPU that nvidia-smi names"
            raise UserError(
                f"--shard {self.cards} needs {self.cards} GPUs that are not in use; here is "
                f"{cards}; leave out --shard, or add --device cpu for processes on the CPU"
            )
        return free[: self.cards]
