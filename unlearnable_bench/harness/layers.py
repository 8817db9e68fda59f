"""Layers that the harness adjusts, and copies of networks over the same tensors."""

import copy
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


def twin(module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
    """Return a copy of a tree of modules, with its own train and eval modes, over equal tensors.

    Args:
        module: root of the tree.
        known: modules of the copy by their originals; also holds replacements.
    """
    if module not in known:
        made = known[module] = copy.copy(module)
        children = module._modules  # noqa: SLF001
        made._modules = {k: child and twin(child, known) for k, child in children.items()}  # noqa: SLF001
    return known[module]


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


def without_streams(network: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network, without that of its dropout's random streams."""
    streams = {f"{name}.draws" for name, m in network.named_modules() if isinstance(m, _Dropout)}
    return {name: t for name, t in network.state_dict().items() if name not in streams}


class _Dropout(nn.Dropout):
    random: Random

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask = self.random.uniform(*x.shape) >= self.p
        return x * (mask / (1 - self.p)).to(x.dtype) if self.p < 1 else x * 0
