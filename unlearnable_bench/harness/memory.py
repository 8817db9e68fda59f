"""The largest batch that fits into a device's memory."""

import copy

import torch
from torch import nn

from unlearnable_bench.harness.layers import any_weight

# Share of the memory for activations. The rest is for weights, data, noise, and the memory pools
# of other captured steps.
_SHARE = 0.25


def max_batch(network: nn.Module, size: int, device: torch.device, itemsize: int) -> int:
    """Return the largest batch whose input gradients a GPU may compute in one pass.

    A conservative estimate. Input gradients of larger batches are computed in parts, with equal
    results, since in eval mode an image's gradient does not depend on other images.

    Args:
        network: takes [B, 3, size, size].
        size: height and width of the images in pixels.
        device: a CUDA device.
        itemsize: size of an activation in bytes.
    """
    saved = max(1, activations(network, size))  # a linear network saves none
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(1, int(_SHARE * memory / (saved * itemsize)))


def activations(network: nn.Module, size: int) -> int:
    """Return the number of activations that an image's forward pass saves for the backward pass.

    Counted on a copy without data (torch's meta device), in eval mode with frozen parameters.

    Args:
        network: takes [B, 3, size, size].
        size: height and width of the images in pixels.
    """
    ghost = copy.deepcopy(network).to("meta").eval().requires_grad_(requires_grad=False)
    dtype = any_weight(ghost).dtype
    x = torch.empty(1, 3, size, size, device="meta", dtype=dtype, requires_grad=True)
    saved: dict[int, torch.Tensor] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor  # noqa: SLF001 - the storage's identity
        return tensor

    own = {t.untyped_storage()._cdata for t in [*ghost.parameters(), *ghost.buffers()]}  # noqa: SLF001
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        ghost(x)
    return sum(tensor.numel() for key, tensor in saved.items() if key not in own)
