"""Recognition of layers that are exactly those of torch."""

from typing import TypeGuard, TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def is_plain(layer: nn.Module, *types: type[Layer]) -> TypeGuard[Layer]:
    """Return whether a layer has one of these types, without subclass and hooks.

    Subclasses and hooks may change the computation: torch's older weight normalisation and
    spectral normalisation are hooks.
    """
    forward = layer._forward_hooks or layer._forward_pre_hooks  # noqa: SLF001
    backward = layer._backward_hooks or layer._backward_pre_hooks  # noqa: SLF001
    return type(layer) in types and not (forward or backward)


def is_batch_norm(layer: nn.Module) -> bool:
    """Return whether this is exactly torch's BatchNorm2d."""
    return is_plain(layer, nn.BatchNorm2d)
