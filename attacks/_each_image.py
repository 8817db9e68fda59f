"""Noise that is optimised for each image on its own, batch by batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from unlearnable_bench import Harness
from unlearnable_bench.harness import sweep


def optimise_each(
    harness: Harness,
    step: Callable[[Tensor], None],
    begin: Callable[[Tensor], object],
    steps: int,
    delta: Tensor,
    noise: Tensor,
    levels: int = 255,
) -> None:
    """Optimise the noise of every image of the training set, and store it in whole units.

    Args:
        harness: its loop `attack` counts batches.
        step: changes `delta` for the images of an index; it is captured.
        begin: called with the index of each batch before its first step; sets `delta`.
        steps: number of steps for each batch.
        delta: noise of a batch, float [B, 3, H, W] in units of the pixel range.
        noise: receives the noise of all images, whole [N, 3, H, W], in units of 1 / `levels`; the
            harness keeps it.
        levels: number of units in the pixel range.
    """
    captured = harness.capture(step)
    visits = list(sweep(len(noise), len(delta), harness.device))
    for k in harness.loop("attack", len(visits)):
        index, is_new = visits[k]
        begin(index)
        for _ in range(steps):
            captured(index)
        found = (levels * delta).round().to(noise.dtype)
        noise[index] = torch.where(is_new[:, None, None, None], found, noise[index])
