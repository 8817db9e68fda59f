"""Dropout that draws from seeded streams."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unlearnable_bench.harness.randomness import Random


def any_weight(network: nn.Module) -> Tensor:
    """Return one of a network's parameters, for its type and device; empty if it has none."""
    return next(network.parameters(), torch.empty(0))


def seed_dropout(network: nn.Module, random: Callable[[str], Random]) -> None:
    """Make a network's dropout draw from seeded streams, whose state is saved with the weights.

    Changes the layers' types in place. Draws of torch's own generator would differ in a resumed
    run and in packed cells.

    Args:
        network: the network, on its device.
        random: returns the stream of a given name.
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
        mask = self.random.uniform(*x.shape) >= self.p
        return x * (mask / (1 - self.p)).to(x.dtype) if self.p < 1 else x * 0
