"""Generations by several processes, for the tests that need them."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import Interrupting, Interruption, make_harness, random_images
from processes import FORKSERVER, finish
from torch import Tensor, distributed, nn

from unlearnable_bench import Attack
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.group import Group
from unlearnable_bench.images import Pixels


@dataclass(frozen=True)
class Case:
    """One generation.

    Attributes:
        attack: the method.
        harness: arguments of `make_harness`.
        sharded: whether all processes generate it together; otherwise each does alone.
        state: checkpoint file of the first process.
        before: loop and step before which it is interrupted.
    """

    attack: Attack
    harness: dict[str, Any] = field(default_factory=dict)
    sharded: bool = True
    state: Path | None = None
    before: tuple[str, int] | None = None


@dataclass(frozen=True)
class Made:
    """What a process has after a generation.

    Attributes:
        images: the poisoned images; None: it was interrupted.
        weights: weights and statistics of the surrogate.
        draws: numbers of draws of the random streams.
        resumed: whether the process has read a checkpoint.
    """

    images: Pixels | None
    weights: dict[str, Tensor]
    draws: list[int]
    resumed: bool

    def distance(self, other: "Made") -> float:
        """Return the largest difference of a weight or statistic."""
        pairs = ((x, other.weights[name]) for name, x in self.weights.items())
        return max(float((x.double() - y.double()).abs().max()) for x, y in pairs)


def made_by(size: int, cases: Sequence[Case], folder: Path) -> list[list[Made]]:
    """Return what each of `size` processes has after each of the cases.

    Args:
        size: number of processes.
        cases: generations, one after another.
        folder: an empty folder.
    """
    processes = [
        FORKSERVER.Process(target=_run, args=(rank, size, cases, folder)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    assert finish(*processes) == [0] * size
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def _run(rank: int, size: int, cases: Sequence[Case], folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = distributed.FileStore(str(folder / "store"), size)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=120)
    )
    torch.save([_made(case, rank, size) for case in cases], folder / f"{rank}.pt")
    distributed.destroy_process_group()


def _made(case: Case, rank: int, size: int) -> Made:
    harness = make_harness(**case.harness)
    if case.sharded:
        harness.group = Group(rank, size, harness.device)
    if rank == 0:
        harness.checkpoint = Checkpoint(case.state, interval=0.0)
    if case.before:
        harness.progress = Interrupting(*case.before)
    kept: list[nn.Module] = []
    harness.keep_surrogate = lambda model, _updates: kept.append(model)  # type: ignore[method-assign]
    images = None
    with suppress(Interruption):
        images = np.array(case.attack.generate(random_images(), harness).images)
    weights = {name: x.clone() for model in kept for name, x in model.state_dict().items()}
    draws = [int(stream.draws) for stream in harness._streams]
    return Made(images, weights, draws, harness.checkpoint.restored_seconds > 0)
