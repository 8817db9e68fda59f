"""Processes, one on each card, that generate one noise together.

Every process runs the same method on the same state. They divide the images of the functions that
`Harness.sharded` returns and exchange the results, so that each holds all noise. Each updates the
surrogate by itself, on the whole batch: its BatchNorms need the statistics of the whole batch, and
a divided update would exchange them 40 times for one of the 561 passes of a step of REM. The first
process leads: the others take over its weights after each step, so that rounding does not let them
drift apart, and only it reads and writes checkpoints.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.step import outside_graphs

Parts = TypeVar("Parts", Tensor, tuple[Tensor, ...])

_LOOK = 2e-4  # seconds between two looks at the device


@dataclass(frozen=True)
class Group:
    """The processes of a sharded generation, in torch.distributed's default group.

    Attributes:
        rank: number of this process; 0 leads.
        size: number of processes.
        device: the CPU or a GPU.
        check: raises an error if another process is lost.
        failed: raises the reason of an error of a transfer.
    """

    rank: int
    size: int
    device: torch.device
    check: Callable[[], None] = lambda: None
    failed: Callable[[RuntimeError], None] = lambda _error: None

    @property
    def leads(self) -> bool:
        """Whether this process reads and writes files."""
        return self.rank == 0

    def rows(self, count: int) -> Tensor:
        """Return the places of this process's images in a batch, equally many for each process.

        Args:
            count: number of images of the batch.

        Returns:
            int64 [ceil(count / size)]; those beyond the batch begin again at its first image.
        """
        share = -(-count // self.size)
        return (torch.arange(share, device=self.device) + self.rank * share) % count

    def gathered(self, parts: Sequence[Tensor], count: int) -> list[Tensor]:
        """Return the parts of all processes, after one exchange.

        Args:
            parts: tensors of the images of `rows`, [B, ...].
            count: number of images of the batch.

        Returns:
            The tensors of the batch, [count, ...].
        """
        parts = [part.detach().contiguous() for part in parts]
        wholes = [x.new_empty((self.size * len(x), *x.shape[1:])) for x in parts]

        def exchange() -> None:
            for whole, part in zip(wholes, parts, strict=True):
                self._gather(whole, part)

        outside_graphs(exchange)
        return [whole[:count] for whole in wholes]

    def agreed(self, done: int, state: Sequence[Tensor]) -> int:
        """Return the leader's number of finished steps, and copy its state into that of the others.

        Args:
            done: number of steps that this process has finished.
            state: tensors, changed in place.
        """
        steps = torch.tensor(done, device=self.device)
        self._spread([steps, *state])
        return int(steps)

    def follow(self, weights: Sequence[Tensor]) -> None:
        """Copy the leader's weights into those of the others, after a step.

        Waits until the device has finished the step, because a transfer of a process that is lost
        never ends.

        Args:
            weights: weights and statistics of networks, changed in place.
        """
        self._spread(weights)
        if self.device.type == "cuda":
            event = torch.cuda.Event()
            event.record()
            while not event.query():
                self.check()
                time.sleep(_LOOK)

    def _gather(self, whole: Tensor, part: Tensor) -> None:
        from torch import distributed  # noqa: PLC0415 - other runs do without

        try:
            # As bytes, since no backend has all types.
            distributed.all_gather([*_bytes(whole).chunk(self.size)], _bytes(part))
        except RuntimeError as error:
            self.failed(error)
            raise

    @torch.no_grad()
    def _spread(self, tensors: Sequence[Tensor]) -> None:
        """Copy the leader's tensors into those of the others, all of a type in one transfer."""
        from torch import distributed  # noqa: PLC0415

        tensors = sorted((t for t in tensors if t.numel()), key=lambda tensor: str(tensor.dtype))
        for _, same in groupby(tensors, key=lambda tensor: tensor.dtype):
            group = [*same]
            # On the group's device: the state of SGD may hold scalars of the CPU.
            flat = torch.cat([tensor.detach().to(self.device).reshape(-1) for tensor in group])
            try:
                distributed.broadcast(_bytes(flat), 0)
            except RuntimeError as error:
                self.failed(error)
                raise
            if not self.leads:
                pieces = flat.split([tensor.numel() for tensor in group])
                for tensor, piece in zip(group, pieces, strict=True):
                    tensor.copy_(piece.view(tensor.shape))


def computed_in_parts(
    function: Callable[[Tensor], Parts], group: Group, streams: Sequence[Random]
) -> Callable[[Tensor], Parts]:
    """Return a function of a batch that the processes of a group compute in parts.

    Args:
        function: as for `Harness.sharded`.
        group: the processes.
        streams: random streams from which the function draws.
    """

    def whole(index: Tensor) -> Parts:
        rows, count = group.rows(len(index)), len(index)
        with ExitStack() as stack:
            for stream in streams:
                stack.enter_context(stream.part(count, rows))
            found: Any = function(index[rows])
        single = isinstance(found, Tensor)
        gathered = group.gathered([found] if single else found, count)
        result: Any = gathered[0] if single else tuple(gathered)
        return cast("Parts", result)

    return whole


def _bytes(x: Tensor) -> Tensor:
    return x.flatten().view(torch.uint8)
