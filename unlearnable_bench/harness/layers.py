"""Layers that the harness adjusts: the shift of the input, and dropout."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unlearnable_bench.harness.randomness import Random


class Normalise(nn.Module):
    """Normalisation with mean 0.5 and std 1 for all data, as in the REM and SEM code.

    The first layer of the built-in learners. `Harness.network(centred=False)` switches it off.

    Attributes:
        centred: whether 0.5 is subtracted.
    """

    centred: bool = True

    def forward(self, x: Tensor) -> Tensor:
        """Return x - 0.5, or x in a network that is not centred."""
        return x - 0.5 if self.centred else x


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
