"""Random views of a batch: crop and flip with the exact adjoint as backward pass."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.harness.acceleration import fused
from unlearnable_bench.harness.randomness import Random
from unlearnable_bench.harness.resized_crop import random_boxes, resized_crop
from unlearnable_bench.images import ResizedCrop, Transform, centre


def random_transform(x: Tensor, transform: Transform | ResizedCrop, random: Random) -> Tensor:
    """Return a random view t(x) of each image, differentiable in `x`.

    `Transform` is torchvision's RandomHorizontalFlip and RandomCrop(size, padding=pad) with a
    black border. `ResizedCrop` is RandomResizedCrop(crop), bilinear with antialiasing, and
    RandomHorizontalFlip. Draws are independent for each image.

    Args:
        x: images, float [B, C, H, W]; square for `ResizedCrop`.
        transform: the distribution of t.
        random: stream of the draws.

    Returns:
        The views, float [B, C, H, W] for `Transform`, [B, C, crop, crop] for `ResizedCrop`.

    Examples:
        >>> import torch
        >>> from unlearnable_bench import Random, ResizedCrop, Transform
        >>> from unlearnable_bench.harness import random_transform
        >>> x, random = torch.ones(4, 3, 8, 8), Random(0, "example")
        >>> random_transform(x, Transform(pad=1, flip=True), random).shape
        torch.Size([4, 3, 8, 8])
        >>> random_transform(x, ResizedCrop(crop=6, flip=True), random).shape
        torch.Size([4, 3, 6, 6])
    """
    if isinstance(transform, ResizedCrop):
        boxes = random_boxes(len(x), x.shape[3], transform.area, random)
        return resized_crop(x, boxes, _flips(len(x), transform.flip, random), transform.crop)
    dy = random.integers(2 * transform.pad + 1, len(x)) - transform.pad
    dx = random.integers(2 * transform.pad + 1, len(x)) - transform.pad
    return crop_flip(x, dy, dx, _flips(len(x), transform.flip, random))


def _flips(count: int, allowed: bool, random: Random) -> Tensor:
    if allowed:
        return random.integers(2, count) == 1
    return torch.zeros_like(random.draws, dtype=torch.bool).expand(count)


def central_view(x: Tensor, transform: Transform | ResizedCrop) -> Tensor:
    """Return the central crop of images [B, C, H, W] that has the size of training views."""
    part = centre(x.shape[3], transform.view(x.shape[3]))
    return x[..., part, part]


def crop_flip(x: Tensor, dy: Tensor, dx: Tensor, flip: Tensor) -> Tensor:
    """Mirror images if `flip` is true, then shift them; black outside.

    Args:
        x: images, float [B, C, H, W].
        dy: vertical shift in pixels, int64 [B]; row i of the result is row i + dy of the image.
        dx: horizontal shift of the (mirrored) image in pixels, int64 [B].
        flip: whether each image is mirrored, bool [B].

    Returns:
        The views, float [B, C, H, W].
    """
    result: Tensor = _CropFlip.apply(x, dy, dx, flip)
    return result


class _CropFlip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dy: Tensor, dx: Tensor, flip: Tensor) -> Tensor:
        ctx.save_for_backward(dy, dx, flip)
        if _is_for_numpy(x):
            return _copied(x, dy, dx, flip)
        return _forward(x, dy, dx, flip)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if _is_for_numpy(grads[0]):
            dy, dx, flip = ctx.saved_tensors
            return _copied(grads[0], -dy, -dx, flip, adjoint=True), None, None, None
        return _adjoint(grads[0], *ctx.saved_tensors), None, None, None


@fused
def _forward(x: Tensor, dy: Tensor, dx: Tensor, flip: Tensor) -> Tensor:
    rows = torch.arange(x.shape[2], device=x.device) + dy[:, None]
    columns = torch.arange(x.shape[3], device=x.device) + dx[:, None]
    return _gather(x, rows, torch.where(flip[:, None], x.shape[3] - 1 - columns, columns))


@fused
def _adjoint(g: Tensor, dy: Tensor, dx: Tensor, flip: Tensor) -> Tensor:
    # t reads each pixel at most once, so its adjoint is a gather as well, without atomic sums.
    rows = torch.arange(g.shape[2], device=g.device) - dy[:, None]
    columns = torch.arange(g.shape[3], device=g.device).expand(len(g), -1)
    columns = torch.where(flip[:, None], g.shape[3] - 1 - columns, columns) - dx[:, None]
    return _gather(g, rows, columns)


def _is_for_numpy(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def _copied(x: Tensor, dy: Tensor, dx: Tensor, flip: Tensor, *, adjoint: bool = False) -> Tensor:
    """Return what `_forward` does (or, with negative shifts, `_adjoint`) by copying rectangles.

    On a CPU this takes a fraction of the time of indexing each pixel.
    """
    images = x.detach().permute(0, 2, 3, 1).numpy()
    found = np.zeros(images.shape, images.dtype)
    height, width = x.shape[2:]
    shifts = zip(dy.tolist(), dx.tolist(), flip.tolist(), strict=True)
    for image, view, (down, right, mirrored) in zip(images, found, shifts, strict=True):
        # The view is that of the mirrored image; its adjoint mirrors last.
        source = image[:, ::-1] if mirrored and not adjoint else image
        target = view[:, ::-1] if mirrored and adjoint else view
        top, left = max(0, -down), max(0, -right)
        bottom, end = max(top, min(height, height - down)), max(left, min(width, width - right))
        target[top:bottom, left:end] = source[
            top + down : bottom + down, left + right : end + right
        ]
    return torch.from_numpy(found).permute(0, 3, 1, 2)


def _gather(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return x[b, :, rows[b, i], columns[b, j]], zero outside; [B, C, H, W] channels last."""
    height, width = x.shape[2:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None, :
    ]
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    picked = x[batch, :, rows[:, :, None], columns[:, None, :]]
    return torch.where(inside[..., None], picked, 0).permute(0, 3, 1, 2)
