"""The control that shows what noise alone does."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from unlearnable_bench import Attack, Harness, ImageSet, Poison, Radius, option


@dataclass(frozen=True, kw_only=True)
class Random(Attack):
    """Uniform random noise in the ball: the control for the noise's size alone."""

    surrogate: ClassVar[Literal["none"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Add independent noise, uniform over the whole levels -k..k, to each value."""
        levels = self.rho_u.levels
        draws = harness.random("noise").integers(2 * levels + 1, *images.images.shape)
        noise = (draws - levels).cpu().numpy()
        return Poison.from_noise(images, noise, self.rho_u)

    def image_passes(self, images: int) -> float:
        """Return 0: no network is involved."""
        return 0
