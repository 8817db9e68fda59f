"""A defense in twenty lines: film grain on every training batch."""

from dataclasses import dataclass

from torch import Tensor, nn

from unlearnable_bench import Defense, Random, option


@dataclass(frozen=True, kw_only=True)
class Grain(Defense):
    """Film grain: normal noise that is equal in all channels of a pixel."""

    std: float = option(0.03, "standard deviation in units of the pixel range", minimum=0)

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Add the grain and clip the sum to [0, 1]."""
        grain = random.normal(len(x), 1, *x.shape[2:])
        return (x + self.std * grain).clamp(0, 1), y
