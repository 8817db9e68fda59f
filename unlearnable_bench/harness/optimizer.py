"""SGD whose whole state is tensors."""

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
    """Return torch's fused SGD, its learning rate a tensor so that a captured step reads it."""
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
        # Zero buffers give what none give, and a checkpoint can name them from the start.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate where a captured step will read it."""
    optimizer.param_groups[0]["lr"].fill_(lr)
