"""SGD and Adam whose complete state is tensors."""

import torch
from torch import nn


def sgd(
    model: nn.Module,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    nesterov: bool = False,
) -> torch.optim.SGD:
    """Return torch's fused SGD, with a learning rate that captured steps read.

    Args:
        model: the network to optimise.
        lr: learning rate, which `set_lr` changes.
        momentum: momentum, 0 to 1.
        weight_decay: weight decay.
        nesterov: Nesterov momentum.
    """
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(
        parameters,
        lr=torch.tensor(lr, device=parameters[0].device),
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov,
        fused=True,
    )
    if momentum:
        # Buffers of zeros give the same updates as missing ones, and a checkpoint can restore them.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def adam(model: nn.Module, *, lr: float) -> torch.optim.Adam:
    """Return torch's fused Adam, with a learning rate that captured steps read.

    Args:
        model: the network to optimise.
        lr: learning rate, which `set_lr` changes.
    """
    parameters = list(model.parameters())
    device = parameters[0].device
    optimizer = torch.optim.Adam(
        parameters,
        lr=torch.tensor(lr, device=device),
        fused=True,
        capturable=device.type == "cuda",
    )
    for parameter in parameters:
        # What the first step creates, so that a checkpoint can restore it.
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate in place, so that captured steps read it."""
    optimizer.param_groups[0]["lr"].fill_(lr)
