"""Clean images: the control without noise."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, Radius


@dataclass(frozen=True, kw_only=True)
class Clean(Attack):
    """Clean images, without noise: the reference for every other row."""

    needs = "nothing"
    seeded: ClassVar[bool] = False

    surrogate: ClassVar[Literal["none"]] = "none"

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Return the images unchanged, with a budget of 0."""
        return Poison(images.images, Budget("linf", Radius("0")))

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0
