"""The control that changes nothing."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, Radius


@dataclass(frozen=True, kw_only=True)
class Clean(Attack):
    """No noise: the control that every other row is read against."""

    surrogate: ClassVar[Literal["none"]] = "none"

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Return the images as they are."""
        return Poison(images.images, Budget("linf", Radius("0")))

    def image_passes(self, images: int) -> float:
        """Return 0: no network is involved."""
        return 0
