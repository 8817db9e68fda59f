"""Mixup."""

from dataclasses import dataclass

from torch import Tensor, nn

from unlearnable_bench import Defense, Random, option
from unlearnable_bench.defenses.mixing import beta


@dataclass(frozen=True, kw_only=True)
class Mixup(Defense):
    """Mixup: mix each training image and its target with those of another image of the batch.

    x' = lambda x + (1 - lambda) x[partner] and the same for y
    ([Zhang et al. 2018](https://arxiv.org/abs/1710.09412)). One lambda per batch, as in the
    authors' code.
    """

    needs = "labels"

    alpha: float = option(
        1.0, "parameter of Beta(alpha, alpha), from which lambda is drawn", minimum=0.01
    )

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Draw lambda and the partners."""
        return mixup(x, y, beta(self.alpha, random), random.permutation(len(x)))


def mixup(x: Tensor, y: Tensor, share: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Return lambda x + (1 - lambda) x[partner], and the same for the targets.

    Args:
        x: images, float [B, 3, H, W].
        y: targets, float [B, C].
        share: lambda, float [1] in [0, 1].
        partner: index of each image's partner, int64 [B].

    Returns:
        Images [B, 3, H, W] and targets [B, C].
    """
    share = share.to(x.dtype)
    return share * x + (1 - share) * x[partner], share * y + (1 - share) * y[partner]
