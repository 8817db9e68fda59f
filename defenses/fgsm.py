"""Fast adversarial training: a single step from a random start."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from unlearnable_bench import Defense, Radius, Random, option
from unlearnable_bench.harness import input_gradient, pgd


@dataclass(frozen=True, kw_only=True)
class FGSM(Defense):
    """Fast adversarial training: a single FGSM step from a uniform random start.

    [Wong et al., ICLR 2020](https://arxiv.org/abs/2001.03994). `pgd_steps` has no effect. The
    gradient is computed in eval mode like every input gradient of this package; the authors'
    code computes it in train mode, which also updates the BatchNorm statistics.
    """

    adversarial_only: ClassVar[bool] = True
    reads_pgd_steps: ClassVar[bool] = False

    alpha: float = option(1.25, "step size in units of rho_a", minimum=0)

    def perturb(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        rho_a: Radius,
        steps: int,
        random: Random,
    ) -> Tensor:
        """Return x + delta + alpha rho_a sign(gradient), clipped to the ball and to [0, 1]."""
        radius = float(rho_a)
        return pgd(
            x, lambda at: input_gradient(model, at, y), radius, self.alpha * radius, 1, random
        )
