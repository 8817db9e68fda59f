"""One worker process for each GPU of this machine."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec import structs

from unlearnable_bench.errors import UserError
from unlearnable_bench.execution import Executor
from unlearnable_bench.options import option

if TYPE_CHECKING:
    from unlearnable_bench.running.executor import Summary
    from unlearnable_bench.running.work import Work

# An idle card shows up to a few hundred MiB, which its driver has.
_USED = 1024
_FIELDS = "index,uuid,name,memory.used,memory.total"


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        number: its number among those that CUDA_VISIBLE_DEVICES allows, in its order.
        uuid: name of this very card, as CUDA_VISIBLE_DEVICES takes it.
        model: name of the model.
        used: memory in use, MiB.
        total: memory, MiB.
    """

    number: int
    uuid: str
    model: str
    used: int
    total: int

    @property
    def busy(self) -> bool:
        """Whether another process computes on it: it uses at least 1 GiB."""
        return self.used >= _USED

    def __str__(self) -> str:
        used = f", {self.used / 1024:.0f} of {self.total / 1024:.0f} GiB in use"
        return f"{self.number} ({self.model}{used if self.busy else ''})"


@dataclass(frozen=True, kw_only=True)
class GPUs(Executor):
    """One worker process per GPU of this machine."""

    cards: str = option("all", "GPUs: all, which skips those in use, or numbers such as 0,2")

    def worker_device(self) -> str:
        """Return `cuda`: each worker sees one card."""
        return "cuda"

    def check(self) -> None:
        """Refuse a machine without GPUs, and cards that it lacks or that are in use."""
        self._chosen()

    def described(self, device: str) -> str:
        """Return the cards, and those that are skipped."""
        chosen, skipped = self._chosen()
        text = f"{len(chosen)} GPU{'s' if len(chosen) > 1 else ''}: {', '.join(map(str, chosen))}"
        return f"{text}; skipped, in use: {', '.join(map(str, skipped))}" if skipped else text

    def run(self, work: "Work") -> "Summary":
        """Compute the missing cells in one worker process per card."""
        from unlearnable_bench.running.pool import Seat, run_workers  # noqa: PLC0415 - loads torch
        from unlearnable_bench.running.threads import usable_cores  # noqa: PLC0415

        chosen, _ = self._chosen()
        seats = [Seat(f"gpu {card.number}", {"CUDA_VISIBLE_DEVICES": card.uuid}) for card in chosen]
        threads = work.job.threads or max(1, usable_cores() // len(seats))
        job = structs.replace(work.job, device="cuda", threads=threads)
        return run_workers(replace(work, job=job), seats)

    def _chosen(self) -> tuple[list[Card], list[Card]]:
        """Return the cards to use, and those that are skipped.

        Raises:
            UserError: a number that is not a card's, or no card is free.
        """
        found = {str(card.number): card for card in visible_cards()}
        if not found:
            raise UserError("--gpus: nvidia-smi names no GPU here; use --workers or --device")
        if self.cards != "all":
            names = [name.strip() for name in self.cards.split(",")]
            for name in names:
                if name not in found:
                    cards = ", ".join(map(str, found.values()))
                    raise UserError(f"--gpus {self.cards}: no GPU {name!r}; there are {cards}")
            return [found[name] for name in dict.fromkeys(names)], []
        free = [card for card in found.values() if not card.busy]
        if not free:
            cards = ", ".join(map(str, found.values()))
            raise UserError(
                f"all GPUs are in use: {cards}; choose with --gpus 0 or --device cuda:0"
            )
        return free, [card for card in found.values() if card.busy]


def visible_cards() -> list[Card]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES allows; none without nvidia-smi.

    The CUDA driver is not loaded, because it would take memory on the first card.
    """
    command = ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_cards(found.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_cards(text: str, visible: str | None) -> list[Card]:
    """Return the cards in the output of nvidia-smi.

    Args:
        text: a line of comma-separated values per card.
        visible: numbers or beginnings of UUIDs, as in CUDA_VISIBLE_DEVICES; None: all.
    """
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 5]
    if visible is not None:
        rows = [row for name in visible.split(",") for row in rows if _is_named(row, name.strip())]
    return [
        Card(number, row[1], row[2], _mib(row[3]), _mib(row[4])) for number, row in enumerate(rows)
    ]


def _is_named(row: Sequence[str], name: str) -> bool:
    return row[0] == name or (name.startswith("GPU-") and row[1].startswith(name))


def _mib(text: str) -> int:
    """Return a number of MiB; 0 where the card does not report it."""
    return int(text) if text.isdecimal() else 0
