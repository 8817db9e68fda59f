"""Augmentations of contrastive learning with a strength, and sign steps through them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unlearnable_bench import Random, ResizedCrop, Transform
from unlearnable_bench.harness import input_gradient
from unlearnable_bench.harness.colours import brightness, contrast, grey, hue, saturation
from unlearnable_bench.harness.resized_crop import random_boxes, resized_crop


def contrastive_view(
    x: Tensor,
    strength: float,
    transform: Transform | ResizedCrop,
    random: Random,
    *,
    area: float | None = None,
    alike: bool = False,
) -> Tensor:
    """Return SimCLR's augmentation of each image, scaled by a strength; differentiable in `x`.

    A box of at least max(1 - 0.9 s, 0.05) of the area, scaled to the size of the views; a flip if
    the views of the data set have one; with probability min(0.99, 0.8 s) brightness, contrast and
    saturation by up to 0.4 s and hue by up to 0.1 s of the circle; grey with probability 0.2 s.

    Args:
        x: images, float [B, 3, H, H] in [0, 1].
        strength: s, 0 to 1; 0 only flips.
        transform: the data set's views, for their size and flips.
        random: stream of the draws, independent for each image.
        area: smallest share of the area that a box covers, 0 to 1; None: by the strength.
        alike: whether all images get the same draw.

    Returns:
        The views, float [B, 3, V, V] in [0, 1].
    """
    count, size = 1 if alike else len(x), x.shape[3]
    area = max(1 - 0.9 * strength, 0.05) if area is None else area
    boxes = random_boxes(count, size, area, random)
    flips = random.integers(2, count) == 1
    if not transform.flip:
        flips = torch.zeros_like(flips)
    view = resized_crop(x, boxes, flips, transform.view(size))
    change = strength * random.uniform(4, count, low=-1.0, high=1.0)
    chosen = random.uniform(2, count)
    jittered = brightness(view, 1 + 0.4 * change[0])
    jittered = contrast(jittered, 1 + 0.4 * change[1])
    jittered = saturation(jittered, 1 + 0.4 * change[2])
    jittered = hue(jittered, 0.1 * change[3])
    is_jittered = chosen[0, :, None, None, None] < min(0.99, 0.8 * strength)
    view = torch.where(is_jittered, jittered, view)
    is_grey = chosen[1, :, None, None, None] < 0.2 * strength
    return torch.where(is_grey, grey(view), view)


def sign_step(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    delta: Tensor,
    move: float,
    radius: float,
    view: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Take a sign step on the cross-entropy of views, into the ball and then into [0, 1].

    Args:
        model: maps views to logits.
        x: images, float [B, 3, H, W] in [0, 1].
        y: labels, int64 [B].
        delta: noise, float [B, 3, H, W].
        move: step size in units of the pixel range; negative to descend.
        radius: radius of the L-infinity ball.
        view: augments images; the gradient passes through it.

    Returns:
        The noise and the gradient, both float [B, 3, H, W].
    """
    at = (x + delta).clamp(0, 1).requires_grad_()
    views = view(at)
    gradient = torch.autograd.grad(views, at, input_gradient(model, views, y))[0]
    moved = (delta + move * gradient.sign()).clamp(-radius, radius)
    return (x + moved).clamp(0, 1) - x, gradient
