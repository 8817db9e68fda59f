"""TRADES."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Defense, Radius, Random, option
from unlearnable_bench.harness import frozen, input_gradient

_START = 0.001  # standard deviation of the random start, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class TRADES(Defense):
    """TRADES: clean loss plus the divergence between clean and adversarial predictions.

    CE(f(x), y) + beta max KL(p(x) || p(x'))
    ([Zhang et al., ICML 2019](https://arxiv.org/abs/1901.08573)). Both passes are in train mode,
    so BatchNorm statistics are updated with x and with x'; the authors' code passes x a second
    time, with the same logits.
    """

    needs = "labels"

    adversarial_only: ClassVar[bool] = True

    beta: float = option(
        6.0, "weight of the KL divergence in the loss; higher favours robustness", minimum=0
    )

    def perturb(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        rho_a: Radius,
        steps: int,
        random: Random,
    ) -> Tensor:
        """Maximise the divergence from p(x) by sign ascent with step size 2 rho_a / steps.

        The random start is near x, as in the authors' code; at x itself the gradient is 0.
        """
        with frozen(model), torch.no_grad():
            prediction = model(x).softmax(1)
        x, radius, step_size = x.detach(), float(rho_a), rho_a.step_size(steps)
        adversarial = x + _START * random.normal(*x.shape).to(x.dtype)
        for _ in range(steps):
            # The entropy of p(x) is constant, so the gradient of the cross-entropy is that of
            # the divergence.
            gradient = input_gradient(model, adversarial, prediction)
            moved = adversarial + step_size * gradient.sign()
            adversarial = moved.clamp(x - radius, x + radius).clamp(0, 1)
        return adversarial

    def loss(self, model: nn.Module, x: Tensor, perturbed: Tensor, y: Tensor) -> Tensor:
        """Return CE(f(x), y) + beta KL(p(x) || p(x')), means over the batch.

        Gradients flow through both predictions.
        """
        logits = model(x)
        natural = functional.cross_entropy(logits, y)
        if perturbed is x:
            return natural
        divergence = functional.kl_div(
            model(perturbed).log_softmax(1),
            logits.log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        return natural + self.beta * divergence
