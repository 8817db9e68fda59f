"""Training of an attack's own network on the clean images, before it makes noise."""

from collections.abc import Callable

from torch import Tensor

from unlearnable_bench.harness import Harness, Network, ShuffledBatches, refuse_divergence


def train_network(
    harness: Harness,
    model: Network,
    update: Callable[[Tensor], None],
    *,
    images: int,
    batch_size: int,
    epochs: int,
    before: Callable[[int, int], None] = lambda _step, _steps: None,
) -> int:
    """Train a network by updates on shuffled batches, in the loop `network`.

    Args:
        harness: loops, captured steps and the seed of the order. Call its `keep` first.
        model: the network.
        update: changes the network by one batch, given its indices, int64 [B].
        images: number of training images.
        batch_size: number of images in a batch; reduced to `images` if larger.
        epochs: number of passes; each drops the incomplete last batch.
        before: called with each step and their number before the update, e.g. to set the learning
            rate.

    Returns:
        The number of updates.

    Raises:
        UserError: the weights became infinite or NaN.
    """
    batches = ShuffledBatches(images, batch_size, harness.seed, "generation order", harness.device)
    captured = harness.capture(update)
    model.train()
    steps = epochs * batches.per_epoch
    for step in harness.loop("network", steps):
        before(step, steps)
        captured(batches[step])
    refuse_divergence(model)
    return steps
