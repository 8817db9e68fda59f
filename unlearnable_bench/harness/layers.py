"""Layers of torch that do something needless in every step, or draw unseeded, without that.

Each needless operation is a kernel of its own, and the kernels of a small batch take hardly
longer than their launches.
"""

from collections.abc import Callable
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench.harness.randomness import Random

Layer = TypeVar("Layer", bound=nn.Module)


def is_plain(layer: nn.Module, *types: type[Layer]) -> TypeGuard[Layer]:
    """Tell whether a layer is of one of these types and does what they say, no more and no less.

    A subclass may do more, and so may hooks: weight and spectral normalisation of torch's
    older form are hooks.
    """
    forward = layer._forward_hooks or layer._forward_pre_hooks  # noqa: SLF001
    backward = layer._backward_hooks or layer._backward_pre_hooks  # noqa: SLF001
    return type(layer) in types and not (forward or backward)


def is_batch_norm(layer: nn.Module) -> bool:
    """Tell whether this is a BatchNorm of images and nothing more."""
    return is_plain(layer, nn.BatchNorm2d, _BatchNorm2d)


def any_weight(network: nn.Module) -> Tensor:
    """Return one of a network's weights, for its type and device; empty where there is none."""
    return next(network.parameters(), torch.empty(0))


def spare(network: nn.Module) -> None:
    """Let a network's layers, of torch's own types, compute the same with fewer kernels.

    Changes the layers' types in place; weights, statistics and their names stay.
    """
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d and layer.momentum is not None:
            layer.__class__ = _BatchNorm2d
        elif type(layer) is nn.AdaptiveAvgPool2d and layer.output_size in (1, (1, 1)):
            layer.__class__ = _GlobalAverage


def seed_dropout(network: nn.Module, random: Callable[[str], Random]) -> None:
    """Let a network's dropout draw from streams whose place is kept with the weights.

    Changes the layers' types in place. What torch's own generator draws would differ in a
    resumed run and beside packed cells.

    Args:
        network: on its device.
        random: returns the stream of a name.
    """
    layers = (layer for layer in network.modules() if type(layer) is nn.Dropout and layer.p)
    for number, layer in enumerate(layers):
        layer.__class__ = _Dropout
        assert isinstance(layer, _Dropout)
        layer.random = random(f"dropout {number}")
        layer.register_buffer("draws", layer.random.draws)


class _Dropout(nn.Dropout):
    random: Random

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = self.random.uniform(*x.shape) >= self.p
        return x * (kept / (1 - self.p)).to(x.dtype) if self.p < 1 else x * 0


class _BatchNorm2d(nn.BatchNorm2d):
    """Does not count its batches: with a momentum, nothing reads their number."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            self.momentum or 0.0,
            self.eps,
        )


class _GlobalAverage(nn.AdaptiveAvgPool2d):
    """A mean: as torch's layer writes it, its gradient passes through two more arrays."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1), keepdim=True)
