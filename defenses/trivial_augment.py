"""The operations of TrivialAugment with kornia's meaning and strengths, as UEraser uses them.

Batches are float [B, 3, H, W] in [0, 1] with H = W; draws are float [B]. Ranges and definitions
are those of kornia 0.6.12 (https://kornia.readthedocs.io). Nothing depends on a value on the host,
so that a CUDA graph can capture the operations.
"""

import math

import torch
from torch import Tensor

from unlearnable_bench.defenses.operations import OPERATIONS as RANDAUGMENT
from unlearnable_bench.defenses.operations import (
    autocontrast,
    equalize,
    posterize,
    sharpness,
    solarize,
    warp,
)

OPERATIONS = RANDAUGMENT[2:]  # neither identity nor saturation
_WARPS = OPERATIONS[:5]
_SHEAR = math.radians(0.3 * 180)
_TRANSLATE = 0.5
_ROTATE = math.radians(30)
_FACTOR = (0.1, 1.9)
_BITS = 4


def apply(x: Tensor, choice: Tensor, draw: Tensor, sign: Tensor) -> Tensor:
    """Apply the chosen operation to each image.

    All operations are computed for all images, and one result is selected for each, because a
    CUDA graph has no branches.

    - shear: tan(54 m degrees) px for each px, about the centre, in both directions
    - translate: m / 2 of the image's side n, times n / (n - 1), bilinear
    - rotate: 30 m degrees about the centre, in both directions
    - brightness: x + f - 1; contrast: f x; sharpness: f x + (1 - f) smoothed x;
      f = 0.1 + 1.8 m
    - posterize: the highest 0 to 4 bits, 4 m rounded; 0 bits are black
    - solarize: 1 - x from the threshold m on

    Args:
        x: the batch, float [B, 3, H, W] in [0, 1].
        choice: index in `OPERATIONS`, int64 [B].
        draw: m, float [B] in [0, 1].
        sign: direction of shear, shift and rotation, float [B], 1 or -1.

    Returns:
        The images, float [B, 3, H, W] in [0, 1].
    """
    low, high = _FACTOR
    factor = low + (high - low) * draw
    each = factor[:, None, None, None].to(x.dtype)
    results = {
        "brightness": (x + each - 1).clamp(0, 1),
        "contrast": (each * x).clamp(0, 1),
        "sharpness": sharpness(x, factor),
        # 8 - 0 bits: the step of 256 levels leaves nothing.
        "posterize": posterize(x, (_BITS * draw).round()),
        "solarize": solarize(x, draw),
        "autocontrast": autocontrast(x),
        "equalize": equalize(x),
    }
    warped = _warp_chosen(x, choice, draw * sign)
    results |= dict.fromkeys(_WARPS, warped)
    selected = x
    for name, result in results.items():
        chosen = (choice == OPERATIONS.index(name))[:, None, None, None]
        selected = torch.where(chosen, result, selected)
    return selected


def _warp_chosen(x: Tensor, choice: Tensor, signed: Tensor) -> Tensor:
    """Shear, shift or rotate each image as chosen, with a single resampling of the batch."""

    def strength(name: str, value: Tensor) -> Tensor:
        return torch.where(choice == OPERATIONS.index(name), value, 0)

    side = x.shape[3]
    # kornia's unit of shifts is the distance between the centres of the outer pixels.
    shift = _TRANSLATE * signed * side / (side - 1)
    slope = (_SHEAR * signed).tan()
    shear_x, shear_y = strength("shear-x", slope), strength("shear-y", slope)
    return warp(
        x,
        shear_x=shear_x,
        shear_y=shear_y,
        # `warp` shears about the corner; half of the side's shear back is about the centre.
        shift_x=side * (strength("translate-x", shift) + shear_x / 2),
        shift_y=side * (strength("translate-y", shift) + shear_y / 2),
        angle=strength("rotate", _ROTATE * signed),
    )
