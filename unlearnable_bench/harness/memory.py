"""What fits into a device's memory: the largest batch, and the noise of all images."""

import copy

import torch
from torch import nn

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.layers import any_weight
from unlearnable_bench.radius import Radius

# Share of the memory for activations. The rest is for weights, data, noise, and the memory pools
# of other captured steps.
_SHARE = 0.25
_LARGEST_BYTE = torch.iinfo(torch.int8).max


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


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that this process can still use on a GPU; None on a CPU: not known."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def level_type(radius: Radius) -> torch.dtype:
    """Return the smallest type that holds noise within a radius in whole units of 1/255.

    int8 takes as much memory as the images, int16 twice as much.

    Examples:
        >>> from unlearnable_bench import Radius
        >>> level_type(Radius("8/255")), level_type(Radius("127/255"))
        (torch.int8, torch.int16)
    """
    # Levels are rounded from floats, which may exceed floor(255 rho) by one.
    return torch.int8 if radius.levels < _LARGEST_BYTE else torch.int16


def zero_noise(
    shape: torch.Size, dtype: torch.dtype, device: torch.device, copies: int = 1
) -> torch.Tensor:
    """Return zero noise for all images on the device, [N, 3, H, W].

    Args:
        shape: shape of the images.
        dtype: type of the noise.
        device: the device.
        copies: number of such tensors that the method holds at the same time.

    Raises:
        UserError: they do not fit into the free memory of the device.
    """
    needed, free = copies * shape.numel() * dtype.itemsize, free_memory(device)
    if free is not None and needed > free:
        raise UserError(
            f"the noise of {shape[0]:,} images of {shape[-1]} px takes {needed / 1e9:.1f} GB of "
            f"the GPU's memory, of which {free / 1e9:.1f} GB are free; use fewer or smaller "
            "images, such as --set imagenet-subset.classes=20"
        )
    return torch.zeros(shape, dtype=dtype, device=device)
