"""Random noise of each class: the control for what a class-wise pattern does by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, Radius, option
from unlearnable_bench.attacks._class_noise import with_patterns
from unlearnable_bench.images import Pixels


@dataclass(frozen=True, kw_only=True)
class ClassRandom(Attack):
    """One uniform random pattern per class: the control for class-wise noise.

    poison = clip(x + n_y, 0, 255) with n_c ~ U{-k, ..., k} independently for each value of each
    class c, where k = floor(255 rho_u). It shows what a pattern per class does without
    optimisation; [arXiv 2102.04716](https://arxiv.org/abs/2102.04716) has it in the L2 ball (P5).
    """

    needs = "labels"

    surrogate: ClassVar[Literal["none"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Add the pattern of its class to each image."""
        return Poison(self._poisoned(images, harness), Budget("linf", self.rho_u))

    def function_of_class(
        self, images: ImageSet, poisoned: Pixels, harness: Harness
    ) -> Callable[[ImageSet], Pixels]:
        """Return the addition of the patterns, which the seed determines."""
        return lambda others: self._poisoned(others, harness)

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0

    def _poisoned(self, images: ImageSet, harness: Harness) -> Pixels:
        levels, shape = self.rho_u.levels, images.images.shape[1:]
        draws = harness.random("noise").integers(2 * levels + 1, images.classes, *shape)
        patterns = (draws - levels).short().cpu().numpy()
        return with_patterns(images, patterns, self.rho_u)
