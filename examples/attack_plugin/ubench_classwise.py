"""An attack in twenty lines: a random pattern for each class."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from unlearnable_bench import Attack, Harness, ImageSet, Poison, Radius, option


@dataclass(frozen=True, kw_only=True)
class Classwise(Attack):
    """Random sign pattern for each class, made of square cells."""

    surrogate: ClassVar[Literal["none"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    cell: int = option(4, "side of a square cell in pixels", minimum=1)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Add its class's pattern to each image."""
        cells = -(-images.size // self.cell)
        signs = 2 * harness.random("patterns").integers(2, images.classes, cells, cells, 3) - 1
        pattern = signs.repeat_interleave(self.cell, 1).repeat_interleave(self.cell, 2)
        pattern = pattern[:, : images.size, : images.size].cpu().numpy() * self.rho_u.levels
        return Poison.from_noise(images, pattern[images.labels], self.rho_u)
