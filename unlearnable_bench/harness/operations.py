"""Operations of a network, by which its time is compared with that of others."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from unlearnable_bench.contract import Learner


def forward_operations(learner: "Learner", size: int, classes: int = 10) -> float:
    """Return the operations of the forward pass of one image (a multiply-add counts as two).

    Args:
        learner: the architecture.
        size: height and width of the image in pixels.
        classes: number of classes.
    """
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 - loads triton

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        learner.build(classes, size).eval()(torch.zeros(1, 3, size, size))
    return float(counter.get_total_flops())
