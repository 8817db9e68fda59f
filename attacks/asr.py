"""Robust noise with a regularised surrogate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from unlearnable_bench import option
from unlearnable_bench.attacks.rem import PERTURBATION_SUMMARY, REM, Perturbation


@dataclass(frozen=True, kw_only=True)
class ASR(REM):
    """REM whose surrogate knows nothing of clean images (arXiv 2305.10691).

    REM's loop with two changes ([arXiv 2305.10691](https://arxiv.org/abs/2305.10691)): the noise is
    optimised on views without a perturbation, and the surrogate's loss is REM's plus the mean over
    images of |softmax f(t(x)) - 1/C|_2, which holds its predictions on clean images near chance.
    """

    version: ClassVar[str] = "2"  # in version 1, clean images passed through the surrogate first

    needs = "labels"

    perturbation: Perturbation = option("none", PERTURBATION_SUMMARY)
    weight: float = option(1.0, "weight of the distance from chance on clean images", minimum=0)
    squared: bool | None = option(
        None, "square of the distance; none: false up to 10 classes, true above"
    )

    def surrogate_loss(
        self, model: nn.Module, x: Tensor, y: Tensor, clean: Callable[[], Tensor]
    ) -> Tensor:
        """Return REM's loss plus the distance of predictions on clean views from chance."""
        loss = super().surrogate_loss(model, x, y, clean)
        shares: Tensor = model(clean()).softmax(1)
        classes = shares.shape[1]
        distance: Tensor = torch.linalg.vector_norm(shares - 1 / classes, dim=1)
        if self.squared or (self.squared is None and classes > 10):
            distance = distance.square()
        return loss + self.weight * distance.mean()

    def image_passes(self, images: int) -> float:
        """Count REM's passes, and one of clean images in each update."""
        return super().image_passes(images) + self._updates * min(self.batch_size, images)
