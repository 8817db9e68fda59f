"""CutMix."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unlearnable_bench import Defense, Random, option
from unlearnable_bench.defenses.mixing import beta


@dataclass(frozen=True, kw_only=True)
class CutMix(Defense):
    """CutMix: paste a box of another image of the batch into each training image.

    x' = x outside the box and x[partner] inside; the targets are mixed by area
    ([Yun et al. 2019](https://arxiv.org/abs/1905.04899)). One lambda and one box per batch, as
    in the authors' code.
    """

    needs = "labels"

    alpha: float = option(
        1.0, "parameter of Beta(alpha, alpha), from which lambda is drawn", minimum=0.01
    )
    probability: float = option(
        1.0,
        "share of the batches that are mixed; 0.5 in the authors' CIFAR runs",
        minimum=0,
        maximum=1,
    )

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Draw whether to mix, lambda, the centre of the box and the partners."""
        mixed = random.uniform(1) < self.probability
        share = torch.where(mixed, beta(self.alpha, random), 1)
        row, column = random.integers(x.shape[2], 1), random.integers(x.shape[3], 1)
        return cutmix(x, y, share, row, column, random.permutation(len(x)))


def cutmix(
    x: Tensor, y: Tensor, share: Tensor, row: Tensor, column: Tensor, partner: Tensor
) -> tuple[Tensor, Tensor]:
    """Paste the box, and mix the targets by its area after clipping.

    Args:
        x: images, float [B, 3, H, W].
        y: targets, float [B, C].
        share: lambda, the share of the area outside the box, float [1]: the sides of the box are
            sqrt(1 - lambda) H and sqrt(1 - lambda) W.
        row: row of the centre of the box, int64 [1]; borders clip the box.
        column: column of the centre, int64 [1].
        partner: index of the image from which each box is taken, int64 [B].

    Returns:
        Images [B, 3, H, W] and targets [B, C].
    """
    box = _span(row, share, x.shape[2])[:, None] & _span(column, share, x.shape[3])
    pasted = box.to(y.dtype).mean()
    return torch.where(box, x[partner], x), (1 - pasted) * y + pasted * y[partner]


def _span(centre: Tensor, share: Tensor, length: int) -> Tensor:
    half = (0.5 * (1 - share).sqrt() * length).long()
    at = torch.arange(length, device=centre.device)
    return (at >= centre - half) & (at < centre + half)
