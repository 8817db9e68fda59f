"""Which layers are exactly those of torch."""

from typing import TypeGuard, TypeVar

from torch import nn

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
    return is_plain(layer, nn.BatchNorm2d)
