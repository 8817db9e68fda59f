"""Synthetic shortcuts."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_classification

from unlearnable_bench import (
    Attack,
    Budget,
    Harness,
    ImageSet,
    Poison,
    Radius,
    UserError,
    add_noise,
    option,
)
from unlearnable_bench.images import blocks, on_threads


@dataclass(frozen=True, kw_only=True)
class SC(Attack):
    """Synthetic shortcut noise, also known as LSP (Yu et al., KDD 2022).

    Linearly separable patterns from scikit-learn's make_classification, without a network
    ([arXiv 2111.00898](https://arxiv.org/abs/2111.00898)). The official noise has an L2 budget
    (1.3 at 32 px, with single values up to 17/255). `rho_u` clips it to an L-infinity ball
    instead, which makes it a different attack.
    """

    needs = "labels"

    surrogate: ClassVar[Literal["none"]] = "none"

    # The truncation to 8 bits would remove weaker noise.
    strength: float = option(6.0, "root mean square of the noise in 8-bit levels", minimum=0.5)
    patch: int = option(
        8, "side of a uniform patch in pixels, a divisor of the image size", minimum=1
    )
    rho_u: Radius | None = option(
        None, "radius to which the noise is clipped, L-infinity; none: L2 budget without clipping"
    )

    def check(self, images: ImageSet) -> None:
        """Refuse a patch size that does not divide the image size, or with too few patches.

        Raises:
            UserError: names a patch size that is possible.
        """
        if images.size % self.patch:
            divisor = math.gcd(images.size, self.patch)
            raise UserError(
                f"sc.patch={self.patch} does not divide the images' {images.size} pixels; use a "
                f"divisor, e.g. --set sc.patch={divisor}"
            )
        features = 3 * (images.size // self.patch) ** 2
        if images.classes > _clusters(features):
            possible = max(
                patch
                for patch in range(1, images.size + 1)
                if images.size % patch == 0
                and _clusters(3 * (images.size // patch) ** 2) >= images.classes
            )
            raise UserError(
                f"sc.patch={self.patch} at {images.size} pixels has {features} features, enough "
                f"for {_clusters(features)} classes; the data has {images.classes}; use "
                f"--set sc.patch={possible} or less"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Add a pattern of its class's cluster to each image, all of equal L2 norm."""
        patterns = self._patterns(images, harness.seed + 1)  # seed 0: the official code's seed 1
        poisoned = np.empty_like(images.images)

        def add(part: slice) -> None:
            clean, noise = images.images[part], self._noise(patterns[part], images)
            if self.rho_u is not None:
                poisoned[part] = add_noise(clean, 255 * noise, self.rho_u)
                return
            noise += clean / 255
            np.clip(noise, 0, 1, out=noise)
            noise *= 255
            np.copyto(poisoned[part], noise, casting="unsafe")  # truncated, as in the official code

        on_threads(add, blocks(images.images))
        if self.rho_u is not None:
            return Poison(poisoned, Budget("linf", self.rho_u))
        norm = self.strength / 255 * float(np.sqrt(images.images[0].size))
        return Poison(poisoned, Budget("l2", norm))

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0

    def _patterns(self, images: ImageSet, seed: int) -> NDArray[np.float64]:
        """Return each image's pattern, float64 [N, features], one value for each patch."""
        side = images.size // self.patch
        counts = np.bincount(images.labels, minlength=images.classes)
        # Each class has as many patterns as the largest class has images: N / C if the classes
        # are balanced, as in the official code.
        patterns, clusters = make_classification(
            n_samples=int(counts.max()) * images.classes,
            n_features=3 * side**2,
            n_informative=3 * side**2,
            n_redundant=0,
            n_classes=images.classes,
            n_clusters_per_class=1,
            class_sep=10.0,
            flip_y=0,
            random_state=seed,
        )
        chosen = np.empty((len(images), patterns.shape[1]))
        for label in range(images.classes):
            own = patterns[clusters == label]
            chosen[images.labels == label] = own[: counts[label]]
        return chosen

    def _noise(self, patterns: NDArray[np.float64], images: ImageSet) -> NDArray[np.float64]:
        """Return the noise of some patterns, float64 [B, H, W, 3], units of the pixel range."""
        side = images.size // self.patch
        noise = patterns.reshape(-1, side, side, 3)
        noise = noise.repeat(self.patch, 1).repeat(self.patch, 2)
        norms = np.sqrt((noise**2).sum((1, 2, 3), keepdims=True))
        scaled: NDArray[np.float64] = noise * (
            self.strength / 255 * np.sqrt(images.images[0].size) / norms
        )
        return scaled


def _clusters(features: int) -> int:
    """Return the number of classes that a number of features allows: corners of a cube."""
    return int(2 ** min(features, 62))
