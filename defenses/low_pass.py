"""Low-pass filter with a cut-off frequency."""

from dataclasses import dataclass

import numpy as np
import torch

from unlearnable_bench import Defense, Harness, ImageSet, option
from unlearnable_bench.defenses.frequencies import lowest

_CHUNK = 1 << 22  # values filtered together


@dataclass(frozen=True, kw_only=True)
class LowPass(Defense):
    """Low-pass filter of the training images: the lowest share of their DCT frequencies.

    For sweeps over the cut-off, which recent papers report. Coefficients of the orthonormal
    two-dimensional DCT beyond the first `cutoff` of the rows and columns are set to 0; the result
    is rounded and clipped to 8 bits.
    """

    needs = "nothing"

    cutoff: float = option(
        0.5,
        "share of the rows and columns of DCT coefficients that are kept; 1 keeps all",
        minimum=0,
        maximum=1,
    )

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Filter each channel of each image; at least the mean is kept."""
        kept = max(1, int(self.cutoff * images.size))
        changed = np.empty_like(images.images)
        block = max(1, _CHUNK // images.images[0].size)
        for start in range(0, len(images), block):
            part = slice(start, start + block)
            pixels = torch.tensor(images.images[part], device=harness.device)
            levels = lowest(pixels.permute(0, 3, 1, 2).to(harness.dtype), kept)
            levels = levels.round().clamp(0, 255).to(torch.uint8)
            changed[part] = levels.permute(0, 2, 3, 1).cpu().numpy()
        return images.replaced(changed)
