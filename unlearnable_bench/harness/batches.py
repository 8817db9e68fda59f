"""Batches as a pure function of the step, so that a resumed run has the same ones."""

from collections.abc import Iterator

import torch
from torch import Tensor

from unlearnable_bench.harness.randomness import Random


class ShuffledBatches:
    """Shuffled batches of equal size for all epochs, without the incomplete last batch of each.

    Args:
        count: number of images.
        size: number of images in a batch; larger sizes than `count` are reduced to it.
        seed: seed of the order, together with `stream` and the number of the epoch.
        stream: name of this use; different names give independent orders.
        device: device of the indices.

    Attributes:
        size: number of images in a batch.
        per_epoch: number of batches in an epoch.

    Examples:
        >>> import torch
        >>> from unlearnable_bench.harness import ShuffledBatches
        >>> batches = ShuffledBatches(10, 4, seed=0, stream="example", device=torch.device("cpu"))
        >>> batches.per_epoch, len(set(batches[0].tolist() + batches[1].tolist()))
        (2, 8)
        >>> bool((batches[0] == batches[2]).all())  # another epoch
        False
    """

    def __init__(self, count: int, size: int, seed: int, stream: str, device: torch.device) -> None:
        self.size = min(size, count)
        self.per_epoch = count // self.size
        self._count, self._seed, self._stream, self._device = count, seed, stream, device
        self._epoch = -1
        self._order = torch.empty(0)

    def __getitem__(self, step: int) -> Tensor:
        """Return the indices of the batch of a step, int64 [size]; steps count all epochs."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            random = Random(self._seed, f"{self._stream}/epoch {epoch}", self._device)
            self._order, self._epoch = random.permutation(self._count), epoch
        return self._order[position * self.size : (position + 1) * self.size]


def sweep(count: int, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of equal size that visit every image once.

    A captured step needs one shape, so the last batch is padded with images of the first.
    `is_new` is false for them: their results are discarded.

    Args:
        count: number of images.
        size: number of images in a batch; larger sizes than `count` are reduced to it.
        device: device of the indices.

    Yields:
        Indices without repeats, int64 [size], and `is_new`, bool [size].

    Examples:
        >>> import torch
        >>> from unlearnable_bench.harness import sweep
        >>> for index, is_new in sweep(5, 3, torch.device("cpu")):
        ...     print(index.tolist(), is_new.tolist())
        [0, 1, 2] [True, True, True]
        [3, 4, 0] [True, True, False]
    """
    size = min(size, count)
    for start in range(0, count, size):
        index = torch.arange(start, start + size, device=device)
        yield index % count, index < count
