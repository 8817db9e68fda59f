"""Random noise: the control without optimisation."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from unlearnable_bench import (
    Attack,
    Budget,
    Harness,
    ImageSet,
    Poison,
    Radius,
    add_noise,
    option,
)
from unlearnable_bench.images import chunks


@dataclass(frozen=True, kw_only=True)
class Random(Attack):
    """Uniform random noise in the L-infinity ball: the control for the size of the noise.

    poison = clip(x + n, 0, 255) with n ~ U{-k, ..., k} independently for each value, where
    k = floor(255 rho_u) is the radius in 8-bit levels. A usual baseline, not from a paper.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from unlearnable_bench import Harness, ImageSet, Radius, Transform
        >>> from unlearnable_bench.attacks.random import Random
        >>> from unlearnable_bench.learners.small_cnn import SmallCNN
        >>> grey = ImageSet(np.full((6, 8, 8, 3), 128, np.uint8), np.arange(6) % 2, classes=2)
        >>> harness = Harness(torch.device("cpu"), 0, "fp32", Transform(1, flip=True), SmallCNN())
        >>> poison = Random(rho_u=Radius("4/255")).generate(grey, harness)
        >>> poison.budget
        Budget(norm='linf', radius=Radius(text='4/255'))
        >>> int(poison.images.min()), int(poison.images.max())
        (124, 132)
    """

    needs = "nothing"

    surrogate: ClassVar[Literal["none"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Add independent noise, uniform over the levels -k..k, to each value.

        Args:
            images: the clean training set, uint8 [N, H, W, 3].
            harness: supplies the random stream.

        Returns:
            The poison and its L-infinity budget, `rho_u`.
        """
        levels, clean = self.rho_u.levels, images.images
        parts = list(chunks(clean))
        # One draw for the whole set, in parts: its integers are wider than the images.
        draws = harness.random("noise").integer_blocks(2 * levels + 1, *clean.shape, parts=parts)
        poisoned = np.empty_like(clean)
        for part, draw in zip(parts, draws, strict=True):
            poisoned[part] = add_noise(clean[part], draw.sub_(levels).cpu().numpy(), self.rho_u)
        return Poison(poisoned, Budget("linf", self.rho_u))

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0
