"""Pooled features of a learner's network: the input of its last linear layer."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.device import EXCLUSIVE
from unlearnable_bench.harness.layers import any_weight, twin

if TYPE_CHECKING:
    from unlearnable_bench.contract import Learner


def last_linear(network: nn.Module) -> nn.Module | None:
    """Return the linear layer that a network holds last, or None if it has no such layer."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers else None


def trunk(learner: "Learner", network: nn.Module, size: int) -> nn.Module:
    """Return a network's part before its head, from images to pooled features, in eval mode.

    It shares all tensors with the network, and has its own train and eval modes.

    Args:
        learner: names the head.
        network: what the learner built.
        size: height and width of its images in pixels.

    Raises:
        UserError: the logits are not the head's output for features [B, D].
    """
    head = learner.head(network)
    if head is not None and any(head is module for module in network.modules()):
        made = twin(network, {head: nn.Identity()}).eval()
        weight = any_weight(network)
        x = torch.linspace(0, 1, 6 * size**2, dtype=weight.dtype, device=weight.device)
        x = x.reshape(2, 3, size, size)
        with torch.no_grad():
            found = made(x)
            if found.dim() == 2:
                logits = twin(network, {}).eval()(x)
                try:
                    same = torch.allclose(head(found), logits, rtol=1e-3, atol=1e-5)
                except RuntimeError:  # features of another size
                    same = False
                if same:
                    return made
    raise UserError(
        f"{type(learner).__name__} gives no pooled features: its logits are not the output of its "
        "last linear layer; use another architecture, such as --surrogate resnet18, or override "
        "`head` of the learner"
    )


def refuse_featureless(learner: "Learner", classes: int, size: int) -> None:
    """Refuse an architecture without pooled features, by a network that is built for it.

    Args:
        learner: the architecture.
        classes: number of classes.
        size: height and width of the images in pixels.

    Raises:
        UserError: it has none.
    """
    with EXCLUSIVE, torch.random.fork_rng(devices=[]):
        network = learner.build(classes, size)
    trunk(learner, network, size)
