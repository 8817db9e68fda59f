"""Rounds of an epoch of the surrogate and a sweep over the noise of all images."""

import math
from collections.abc import Callable

from torch import Tensor

from unlearnable_bench.harness import Harness, Random, ShuffledBatches, sweep


def alternate_epochs(
    harness: Harness,
    update: Callable[[Tensor], None],
    descend: Callable[[Tensor, Tensor], None],
    *,
    images: int,
    epochs: int,
    batches: str,
    batch_size: int,
    sweep_size: int,
    loop: str,
    reordered: bool = True,
    before: Callable[[int], None] = lambda _epoch: None,
) -> int:
    """Alternate epochs of updates and sweeps of the noise.

    Args:
        harness: loops, captured steps and the seed of the orders. Call its `keep` first.
        update: changes the surrogate by one batch, given its indices, int64 [B].
        descend: changes the noise of a batch, given its indices, int64 [B], and which of them the
            sweep has not visited, bool [B].
        images: number of training images.
        epochs: number of rounds.
        batches: stream of the order of the updates' batches.
        batch_size: number of images in a batch of an update; the incomplete last one is dropped.
        sweep_size: number of images in a batch of a sweep, which visits every image.
        loop: name of the loop in progress and checkpoints.
        reordered: whether each sweep has a new order instead of that of the images.
        before: called with the epoch, from 0, before each step, e.g. to set the learning rate.

    Returns:
        The number of updates.
    """
    shuffled = ShuffledBatches(images, batch_size, harness.seed, batches, harness.device)
    visits = list(sweep(images, sweep_size, harness.device))
    captured_update, captured_descend = harness.capture(update), harness.capture(descend)
    each = shuffled.per_epoch + len(visits)
    for k in harness.loop(loop, epochs * each):
        epoch, place = divmod(k, each)
        before(epoch)
        if place < shuffled.per_epoch:
            captured_update(shuffled[epoch * shuffled.per_epoch + place])
        else:
            index, is_new = visits[place - shuffled.per_epoch]
            if reordered:
                # Images of one class may be next to each other in the set.
                stream = f"noise order/epoch {epoch}"
                index = Random(harness.seed, stream, harness.device).permutation(images)[index]
            captured_descend(index, is_new)
    return epochs * shuffled.per_epoch


def cosine(peak: float, last: float, epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch, from 0: half a cosine from the peak towards `last`."""
    return last + (peak - last) * (1 + math.cos(math.pi * epoch / epochs)) / 2
