"""Random shifts of colour with Gaussian noise."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from unlearnable_bench import Defense, Radius, Random, option


@dataclass(frozen=True, kw_only=True)
class ColourGaussian(Defense):
    """Shift the channels of each training image at random and add Gaussian noise.

    One shift per channel of an image, U(-shift, shift), and noise whose standard deviation is
    drawn for each image from U(0, noise): the adaptive defense `colorGaussian` of DUNE
    ([arXiv 2605.01718](https://arxiv.org/abs/2605.01718)).
    """

    version: ClassVar[str] = "2"  # version 1 clipped once, after the noise

    needs = "nothing"

    shift: Radius = option(Radius("8/255"), "largest shift of a channel")
    noise: Radius = option(Radius("8/255"), "largest standard deviation of the noise")

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Shift, add the noise, and clip to [0, 1] after both."""
        bound = float(self.shift)
        shift = random.uniform(len(x), 3, 1, 1, low=-bound, high=bound)
        deviation = random.uniform(len(x), 1, 1, 1, high=float(self.noise))
        shifted = (x + shift).clamp(0, 1)
        return (shifted + deviation * random.normal(*x.shape)).clamp(0, 1), y
