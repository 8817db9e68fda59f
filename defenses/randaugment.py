"""RandAugment."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unlearnable_bench import Defense, Random, option
from unlearnable_bench.defenses.operations import OPERATIONS, Ranges, apply


@dataclass(frozen=True, kw_only=True)
class RandAugment(Defense):
    """RandAugment: random operations of one magnitude on each training image.

    [Cubuk et al. 2020](https://arxiv.org/abs/1909.13719), with the 14 operations, ranges and
    defaults of torchvision. Operations and directions are drawn for each image.
    """

    needs = "nothing"

    num_ops: int = option(2, "number of operations applied in sequence to an image", minimum=0)
    magnitude: float = option(
        9.0, "magnitude of the operations; 30 is the strongest", minimum=0, maximum=30
    )
    magnitudes: Literal["constant", "random"] = option(
        "constant",
        "distribution of the magnitude: constant, or random (uniform from 0 to `magnitude` for "
        "each image)",
    )

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Draw operations, directions and magnitudes, and apply the operations."""
        for _ in range(self.num_ops):
            choice = random.integers(len(OPERATIONS), len(x))
            sign = 2.0 * random.integers(2, len(x)) - 1
            if self.magnitudes == "random":
                strength = random.uniform(len(x), high=self.magnitude / 30)
            else:
                strength = torch.full_like(sign, self.magnitude / 30)
            x = apply(x, choice, strength, sign, Ranges())
        return x, y
