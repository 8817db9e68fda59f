"""Gradients with respect to images, and the PGD attack based on them."""

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

# From this batch size, a GPU computes two half batches concurrently in less time than the whole.
_SPLIT_FROM = 128


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode without parameter gradients for a while, then restore it."""
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


Loss = Callable[[Tensor, Tensor], Tensor]


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss | None = None) -> Tensor:
    """Return the gradient of a summed loss, the cross-entropy, with respect to the images.

    g_i = d/dx_i CE(f(x_i), y_i), with f in eval mode and frozen parameters. The loss is summed,
    so that an image's gradient does not depend on the other images; batches beyond a network's
    `max_batch` are computed in parts.

    Args:
        model: maps images in [0, 1] to logits, or to the outputs that `loss` takes.
        x: images, float [B, 3, H, W].
        y: labels, int64 [B], or targets, float [B, C].
        loss: sum over images of a loss of outputs and y; None: the cross-entropy.

    Returns:
        The gradients, float [B, 3, H, W].

    Examples:
        >>> import torch
        >>> from unlearnable_bench.harness import input_gradient
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2, bias=False))
        >>> _ = torch.nn.init.constant_(model[1].weight[0].data, 1.0)
        >>> _ = torch.nn.init.zeros_(model[1].weight[1].data)
        >>> x = torch.zeros(1, 3, 2, 2)  # two equal logits: dL/dx = -(1 - 1/2) w_0
        >>> input_gradient(model, x, torch.tensor([0])).unique().tolist()
        [-0.5]
    """
    networks = [module for module in model.modules() if isinstance(module, Network)]
    parts = -(-len(x) // _max_batch(networks, len(x)))
    fast = acceleration(x.device)
    splits = len(x) >= _SPLIT_FROM and all(network.split_batches for network in networks)
    if fast and splits:
        parts *= 2  # two of them are in memory at the same time
    outer = _logit_gradient if loss is None else torch.func.grad(loss)
    with frozen(model), torch.enable_grad(), one_step():
        if parts == 1:
            return _gradient(model, x, y, outer)
        for network in networks:
            network.prepare()  # once, before parts run concurrently
        pairs = zip(x.chunk(parts), y.chunk(parts), strict=True)
        work = [partial(_gradient, model, *pair, outer) for pair in pairs]
        return torch.cat(
            fast.side_by_side(work, x.device) if fast and splits else [part() for part in work]
        )


def batch_gradient(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the gradient of a loss of all outputs of a batch with respect to its images.

    For losses in which images depend on each other, such as contrastive ones. The network is in
    eval mode, with frozen parameters. Batches beyond its `max_batch` pass through it in parts,
    twice: first all outputs are computed, then the gradients, with equal results.

    Args:
        model: maps images in [0, 1] to outputs, float [B, D].
        x: images, float [B, 3, H, W].
        loss: maps the outputs of the batch to a scalar.

    Returns:
        The gradients, float [B, 3, H, W].

    Examples:
        >>> import torch
        >>> from unlearnable_bench.harness import batch_gradient
        >>> x = torch.arange(6.0).reshape(2, 3, 1, 1)
        >>> batch_gradient(torch.nn.Flatten(), x, lambda z: (z[0] * z[1]).sum()).flatten().tolist()
        [3.0, 4.0, 5.0, 0.0, 1.0, 2.0]
    """
    networks = [module for module in model.modules() if isinstance(module, Network)]
    parts = x.split(_max_batch(networks, len(x)))
    outer = torch.func.grad(loss)
    with frozen(model), torch.enable_grad(), one_step():
        if len(parts) == 1:
            return _gradient(model, x, x, lambda outputs, _: outer(outputs))
        with torch.no_grad():
            outputs = torch.cat([model(part) for part in parts])
        slopes = outer(outputs).split(len(parts[0]))
        pairs = zip(parts, slopes, strict=True)
        return torch.cat([_gradient(model, *pair, lambda _, slope: slope) for pair in pairs])


def _max_batch(networks: list[Network], count: int) -> int:
    return min((network.max_batch for network in networks), default=count)


def _gradient(
    model: nn.Module, x: Tensor, y: Tensor, outer: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    x = x.detach().requires_grad_()
    outputs = model(x)
    return torch.autograd.grad(outputs, x, outer(outputs.detach(), y))[0]


# Fused, because it would take half a dozen small kernels otherwise.
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
    step_size: float,
    steps: int,
    random: Random | None = None,
) -> Tensor:
    """Maximise a loss inside an L-infinity ball by projected sign ascent.

    x_0 = clip(x + U(-radius, radius)); x_(k+1) = clip(x_k + step_size sign(g(x_k))), clipped to
    the ball around x and to [0, 1] ([Madry et al. 2018](https://arxiv.org/abs/1706.06083)), as
    in the REM and SEM code.

    Args:
        x: centre of the ball, float [B, 3, H, W] in [0, 1].
        gradient: returns the gradient of the loss at given images, float [B, 3, H, W].
        radius: radius of the ball in units of the pixel range, 0 to 1.
        step_size: step size in the same unit.
        steps: number of steps.
        random: stream of the random start; None: x_0 = x.

    Returns:
        The perturbed images, float [B, 3, H, W] in [0, 1].

    Examples:
        >>> import torch
        >>> from unlearnable_bench import Random
        >>> from unlearnable_bench.harness import pgd
        >>> x = torch.full((1, 3, 2, 2), 0.5)
        >>> pgd(x, torch.ones_like, 0.25, 0.125, 4, Random(0, "example")).unique().tolist()
        [0.75]
    """
    adversarial = x = x.detach()
    if random is not None:
        adversarial = _clip(x + random.uniform(*x.shape, low=-radius, high=radius), x, radius)
    for _ in range(steps):
        adversarial = _ascend(adversarial, gradient(adversarial), x, radius, step_size)
    return adversarial


def clamp_unit(x: Tensor) -> Tensor:
    """Clamp images to [0, 1]; the gradient passes from 0 to 1, bounds included.

    `torch.clamp` has passed it at exactly 0 and 1 until torch 2.13, as when most methods were
    published, and passes none there since 2.14: 1.2 % of the values of CIFAR-10 are 0 or 1.

    Examples:
        >>> import torch
        >>> from unlearnable_bench.harness import clamp_unit
        >>> x = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
        >>> torch.autograd.grad(clamp_unit(x).sum(), x)[0].tolist()
        [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    return torch.where((x >= 0) & (x <= 1), x, x.detach().clamp(0, 1))


@fused
def _ascend(
    adversarial: Tensor, gradient: Tensor, x: Tensor, radius: float, step_size: float
) -> Tensor:
    return _clip(adversarial + step_size * gradient.sign(), x, radius)


def _clip(moved: Tensor, x: Tensor, radius: float) -> Tensor:
    return torch.clamp(torch.clamp(moved, x - radius, x + radius), 0, 1)
