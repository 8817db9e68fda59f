"""The loop of the REM code base: noise and surrogate in turn, then all noise anew."""

from collections.abc import Callable

from torch import Tensor
from torch.optim import SGD

from unlearnable_bench import Harness, ImageSet
from unlearnable_bench.harness import ShuffledBatches, set_lr, sweep
from unlearnable_bench.schedule import scheduled_lr


def alternate(
    images: ImageSet,
    harness: Harness,
    optimizer: SGD,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    step: Callable[[Tensor], None],
    extract: Callable[[Tensor, Tensor], None],
    stop: int | None = None,
    stopped: Callable[[], None] = lambda: None,
) -> None:
    """Run `step` on shuffled batches, then `extract` once for every image.

    Args:
        images: the training set.
        harness: captures both, and keeps the loops.
        optimizer: of the surrogate; its learning rate falls at 40 % and 80 %.
        steps: number of surrogate updates.
        batch_size: images in a batch.
        lr: learning rate at the start.
        step: makes the noise of the images [B] and updates the surrogate on it.
        extract: makes the final noise of the images [B] where the second argument is true.
        stop: number of updates after which noise is extracted; None: all `steps`. The learning
            rate is that of `steps` all the same.
        stopped: called between the two.
    """
    batches = ShuffledBatches(
        len(images), batch_size, harness.seed, "generation order", harness.device
    )
    captured = harness.capture(step)
    for k in harness.loop("surrogate", steps if stop is None else stop):
        set_lr(optimizer, scheduled_lr("steps", lr, k, steps))
        captured(batches[k])
    stopped()
    visits = list(sweep(len(images), batch_size, harness.device))
    captured = harness.capture(extract)
    for k in harness.loop("extraction", len(visits)):
        captured(*visits[k])
