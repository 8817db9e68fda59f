"""How many images fit into a device's memory together."""

import copy

import torch
from torch import nn

from unlearnable_bench.harness.layers import any_weight

# Left for weights, data, noise, and the memory pools of further captured steps.
_SHARE = 0.25


def max_batch(network: nn.Module, size: int, device: torch.device, itemsize: int) -> int:
    """Return how many images' input gradients a GPU may compute in one pass.

    An estimate on the safe side; input gradients of larger batches are computed in parts,
    which gives the same numbers, since in eval mode each image's own needs no other.

    Args:
        network: takes [B, 3, size, size].
        size: height and width of the images.
        device: a CUDA device.
        itemsize: bytes of one activation.
    """
    kept = max(1, activations(network, size))  # a linear network keeps nothing
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(1, int(_SHARE * memory / (kept * itemsize)))


def activations(network: nn.Module, size: int) -> int:
    """Return how many numbers one image's forward pass keeps for the backward pass.

    Counted on a copy without data, in eval mode with frozen parameters.
    """
    ghost = copy.deepcopy(network).to("meta").eval().requires_grad_(requires_grad=False)
    dtype = any_weight(ghost).dtype
    x = torch.empty(1, 3, size, size, device="meta", dtype=dtype, requires_grad=True)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor  # noqa: SLF001 - the storage's identity
        return tensor

    own = {t.untyped_storage()._cdata for t in [*ghost.parameters(), *ghost.buffers()]}  # noqa: SLF001
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ghost(x)
    return sum(tensor.numel() for key, tensor in kept.items() if key not in own)
