"""TRADES."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Defense, Radius, Random, option
from unlearnable_bench.harness import frozen, input_gradient

_START = 0.001  # standard deviation of the start, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class TRADES(Defense):
    """Trade clean loss against the change of the prediction inside the ball.

    Zhang et al., ICML 2019: CE(f(x), y) + beta max KL(p(x) || p(x')), both passes in
    train mode, so that BatchNorm statistics move with x and with x'. (The authors'
    code passes x a second time, with the same logits.) At rho_a = 0 it is ordinary
    training.
    """

    beta: float = option(6.0, "weight of the divergence", minimum=0)

    def perturb(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        rho_a: Radius,
        steps: int,
        random: Random,
    ) -> Tensor:
        """Maximise the divergence from p(x): sign ascent, each step 2 rho_a / steps.

        It starts near x, not all over the ball: at x itself the gradient is 0.
        """
        with frozen(model), torch.no_grad():
            prediction = model(x).softmax(1)
        x, radius, step = x.detach(), float(rho_a), rho_a.step_size(steps)
        adversarial = x + _START * random.normal(*x.shape).to(x.dtype)
        for _ in range(steps):
            # The entropy of p(x) is a constant: the cross-entropy has the divergence's gradient.
            moved = adversarial + step * input_gradient(model, adversarial, prediction).sign()
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
