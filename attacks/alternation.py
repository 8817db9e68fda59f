"""The loop of the REM code base: alternate noise and surrogate, then generate all noise again."""

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
        images: the clean training set.
        harness: captures both functions and makes their loops resumable.
        optimizer: the surrogate's; its learning rate is multiplied by 0.1 at 40 % and 80 %.
        steps: number of surrogate updates.
        batch_size: number of images in a batch.
        lr: initial learning rate.
        step: generates the noise of the images with indices int64 [B] and updates the surrogate
            on it.
        extract: generates the final noise of the images with indices int64 [B], and stores it if
            the second argument, bool [B], is true.
        stop: number of updates after which the noise is extracted; None: `steps`. The
            learning-rate schedule is that of `steps` in both cases.
        stopped: called between the two loops.
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
