"""Gradients with respect to the input, and the PGD attack built on them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench.harness.acceleration import acceleration, fused
from unlearnable_bench.harness.network import Network
from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.step import one_step

# From so many images on, two halves side by side take a GPU less time than the whole.
_SPLIT_FROM = 128


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Hold a model in eval mode with parameters that take no gradient, then restore it."""
    training = [module for module in model.modules() if module.training]
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of the summed cross-entropy with respect to the images.

    Args:
        model: images in [0, 1] to logits; used in eval mode, parameters frozen.
        x: float [B, 3, H, W].
        y: int64 labels [B], or float targets [B, C].

    Returns:
        float [B, 3, H, W]. Summed, not averaged: image i's gradient is its own, and a
        batch of more images than a network's `max_batch` is computed in parts.
    """
    networks = [module for module in model.modules() if isinstance(module, Network)]
    parts = -(-len(x) // min((network.max_batch for network in networks), default=len(x)))
    fast = acceleration(x.device)
    splits = len(x) >= _SPLIT_FROM and all(network.split_batches for network in networks)
    if fast and splits:
        parts *= 2  # of which two are in memory
    with frozen(model), torch.enable_grad(), one_step():
        if parts == 1:
            return _gradient(model, x, y)
        for network in networks:
            network.prepare()  # once, before pieces run side by side
        pairs = zip(x.chunk(parts), y.chunk(parts), strict=True)
        work = [partial(_gradient, model, *pair) for pair in pairs]
        return torch.cat(
            fast.side_by_side(work, x.device) if fast and splits else [part() for part in work]
        )


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    logits = model(x)
    return torch.autograd.grad(logits, x, _logit_gradient(logits.detach(), y))[0]


# As it is done by itself, this would be half a dozen small kernels.
@fused
def _logit_gradient(logits: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of the summed cross-entropy with respect to the logits."""
    loss = partial(functional.cross_entropy, target=y, reduction="sum")
    gradient: Tensor = torch.func.grad(loss)(logits)
    return gradient


def pgd(
    x: Tensor,
    gradient: Callable[[Tensor], Tensor],
    radius: float,
    step: float,
    steps: int,
    random: Random,
) -> Tensor:
    """Ascend the loss inside an L-infinity ball, from a uniform random start.

    Madry et al. 2018 as the REM and SEM code runs it: sign ascent, clipped to
    the ball and to [0, 1] at each step.

    Args:
        x: float [B, 3, H, W] in [0, 1], the centre of the ball.
        gradient: d loss / d x at an image batch.
        radius: of the ball, in units of the pixel range.
        step: length of a step, in the same unit.
        steps: how many.
        random: draws the start.
    """
    x = x.detach()
    adversarial = _clip(x + random.uniform(*x.shape, low=-radius, high=radius), x, radius)
    for _ in range(steps):
        adversarial = _ascend(adversarial, gradient(adversarial), x, radius, step)
    return adversarial


@fused
def _ascend(adversarial: Tensor, grad: Tensor, x: Tensor, radius: float, step: float) -> Tensor:
    return _clip(adversarial + step * grad.sign(), x, radius)


def _clip(moved: Tensor, x: Tensor, radius: float) -> Tensor:
    return torch.clamp(torch.clamp(moved, x - radius, x + radius), 0, 1)
