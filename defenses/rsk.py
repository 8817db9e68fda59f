"""Random sharpening kernels with a frequency filter."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Defense, Random, UserError, option
from unlearnable_bench.defenses.frequencies import lowest


@dataclass(frozen=True, kw_only=True)
class RSK(Defense):
    """Random sharpening and a low-pass filter of each training image, against CUDA.

    A 3x3 kernel per image with centre c ~ N(2.5, spread), neighbours -n with
    n ~ N((c - 1) / 4, spread) and corners 0, without padding; then the lowest `share` of the rows
    and columns of DCT coefficients ([code](https://github.com/aseriesof-tubes/RSK)).
    """

    needs = "nothing"

    spread: float = option(
        0.1, "standard deviation of the kernel's entries; 0 is a fixed kernel (SSK)", minimum=0
    )
    share: float = option(
        0.3,
        "share of the rows and columns of DCT coefficients that are kept; 1 keeps all",
        minimum=0,
        maximum=1,
    )

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Sharpen and filter; the border of one pixel that the kernel removes becomes black.

        Raises:
            UserError: images smaller than the kernel.
        """
        if x.shape[-1] < 3:
            raise UserError(
                f"rsk has a kernel of 3x3 pixels, the views are {x.shape[-1]} px; use larger images"
            )
        centre = 2.5 + self.spread * random.normal(len(x), 1, 1, 1)
        drawn = self.spread * random.normal(4, len(x), 1, 1, 1)
        around = (centre - 1) / 4 + drawn
        shifted = (x[..., :-2, 1:-1], x[..., 2:, 1:-1], x[..., 1:-1, :-2], x[..., 1:-1, 2:])
        sharp = centre * x[..., 1:-1, 1:-1]
        for weight, neighbour in zip(around, shifted, strict=True):
            sharp = sharp - weight * neighbour
        kept = max(1, int(self.share * sharp.shape[-1]))
        smooth = lowest(sharp.clamp(0, 1).to(x.dtype), kept).clamp(0, 1)
        return functional.pad(smooth, (1, 1, 1, 1)), y
