"""Random noise of each class: the control for what a class-wise pattern does by itself."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, Radius, option
from unlearnable_bench.poison import add_noise

_BLOCK = 1024  # images whose noise is held together


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
        levels, shape = self.rho_u.levels, images.images.shape[1:]
        draws = harness.random("noise").integers(2 * levels + 1, images.classes, *shape)
        patterns = (draws - levels).cpu().numpy().astype(np.float32)
        poisoned = np.empty_like(images.images)
        for start in range(0, len(images), _BLOCK):
            part = slice(start, start + _BLOCK)
            noise = patterns[images.labels[part]]
            poisoned[part] = add_noise(images.images[part], noise, self.rho_u)
        return Poison(poisoned, Budget("linf", self.rho_u))

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0
