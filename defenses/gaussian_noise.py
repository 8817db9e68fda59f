"""Gaussian noise."""

from dataclasses import dataclass

from torch import Tensor, nn

from unlearnable_bench import Defense, Random, option


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Defense):
    """Add Gaussian noise to each training batch, drawn independently in every step."""

    needs = "nothing"

    std: float = option(
        0.03,
        "standard deviation in units of the pixel range; the default is about 8/255",
        minimum=0,
    )

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Add the noise and clip the sum to [0, 1]."""
        return (x + self.std * random.normal(*x.shape)).clamp(0, 1), y
