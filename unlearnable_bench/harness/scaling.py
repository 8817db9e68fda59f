"""The one kernel written by hand: weights scaled and mirrored, for a folded convolution.

torch needs three, each through all of memory, and a folded network needs it for each layer
in each step.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 64


def scale(weight: Tensor, factor: Tensor, scaled: Tensor, mirrored: Tensor | None) -> None:
    """Write factor x weight, and the same mirrored, in the results' types.

    Args:
        weight: [out, in, k, k], channels-last.
        factor: [out].
        scaled: [out, in or more, k, k], channels-last; further channels are left alone.
        mirrored: [in or more, out, k, k], channels-last: flipped in both axes; or nothing.
    """
    outs, ins, *kernel = weight.shape
    taps = kernel[0] * kernel[1]
    grid = (triton.cdiv(outs, _BLOCK), triton.cdiv(ins, _BLOCK), taps)
    with torch.cuda.device_of(weight):  # Triton launches on the current one
        _scale[grid](
            weight.contiguous(memory_format=torch.channels_last),
            factor,
            scaled,
            scaled if mirrored is None else mirrored,
            outs,
            ins,
            scaled.shape[1],
            taps,
            mirrors=mirrored is not None,
            block=_BLOCK,
        )


@triton.jit  # type: ignore[untyped-decorator]
def _scale(
    weight: tl.tensor,
    factor: tl.tensor,
    scaled: tl.tensor,
    mirrored: tl.tensor,
    outs: tl.tensor,
    ins: tl.tensor,
    ins_padded: tl.tensor,
    taps: tl.tensor,
    mirrors: tl.constexpr,
    block: tl.constexpr,
) -> None:
    out = tl.program_id(0) * block + tl.arange(0, block)[:, None]
    channel = tl.program_id(1) * block + tl.arange(0, block)[None, :]
    tap = tl.program_id(2)
    inside = (out < outs) & (channel < ins)
    value = tl.load(weight + (out * taps + tap) * ins + channel, mask=inside)
    value *= tl.load(factor + out, mask=out < outs)
    tl.store(scaled + (out * taps + tap) * ins_padded + channel, value, mask=inside)
    if mirrors:
        there = (channel * taps + taps - 1 - tap) * outs + out
        tl.store(mirrored + there, value, mask=inside)
