"""Adversarial training in the L2 ball."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from unlearnable_bench import Defense, Radius, Random
from unlearnable_bench.harness import input_gradient


@dataclass(frozen=True, kw_only=True)
class PGDL2(Defense):
    """PGD adversarial training in the L2 ball of radius rho_a, e.g. 128/255.

    [Madry et al. 2018](https://arxiv.org/abs/1706.06083). rho_a bounds the Euclidean norm of
    the change of an image in units of the pixel range; 128/255 is about 0.5.
    """

    needs = "labels"

    adversarial_only: ClassVar[bool] = True

    def perturb(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        rho_a: Radius,
        steps: int,
        random: Random,
    ) -> Tensor:
        """Maximise the loss: step size 2 rho_a / steps along the normalised gradient.

        The start has uniform direction and uniform norm, as in
        [Rice et al. 2020](https://arxiv.org/abs/2002.11569); the step size follows the rule of
        the L-infinity ball. Each step is projected to the ball, then clipped to [0, 1], which
        does not leave the ball.
        """
        x, radius, step_size = x.detach(), float(rho_a), rho_a.step_size(steps)
        direction = _unit(random.normal(*x.shape).to(x.dtype))
        norm = random.uniform(len(x), 1, 1, 1, high=radius).to(x.dtype)
        adversarial = (x + norm * direction).clamp(0, 1)
        for _ in range(steps):
            moved = adversarial + step_size * _unit(input_gradient(model, adversarial, y)) - x
            adversarial = (x + _project(moved, radius)).clamp(0, 1)
        return adversarial


def _project(change: Tensor, radius: float) -> Tensor:
    """Return the changes [B, 3, H, W], each projected to the ball of this radius."""
    return change * (radius / _norm(change).clamp_min(radius))


def _unit(change: Tensor) -> Tensor:
    """Return the changes [B, 3, H, W], each scaled to norm 1; 0 stays 0."""
    return change / _norm(change).clamp_min(1e-12)


def _norm(change: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True)
    return norm
