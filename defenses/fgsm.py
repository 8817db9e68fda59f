"""Fast adversarial training: one step from a random start."""

from dataclasses import dataclass

from torch import Tensor, nn

from unlearnable_bench import Defense, Radius, Random, option
from unlearnable_bench.harness import input_gradient, pgd


@dataclass(frozen=True, kw_only=True)
class FGSM(Defense):
    """Adversarial training by one step from a uniform random start.

    "Fast is better than free" (Wong et al., ICLR 2020). `pgd_steps` has no effect.
    The step's gradient is taken in eval mode, as everywhere here; the authors' code
    takes it in train mode, where it moves the BatchNorm statistics too.
    """

    alpha: float = option(1.25, "length of the step, in units of rho_a", minimum=0)

    def perturb(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        rho_a: Radius,
        steps: int,
        random: Random,
    ) -> Tensor:
        """Return clip(x + delta + alpha rho_a sign(gradient)) to the ball and to [0, 1]."""
        radius = float(rho_a)
        return pgd(
            x, lambda at: input_gradient(model, at, y), radius, self.alpha * radius, 1, random
        )
