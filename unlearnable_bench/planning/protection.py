"""Which training images are poisoned: all, a random share, or those of some classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearnable_bench.harness import Random
from unlearnable_bench.images import ImageSet, Labels, Pixels


@dataclass(frozen=True)
class Protection:
    """The images that are poisoned; the others stay clean.

    Attributes:
        share: share of the images (of the protected classes), above 0, at most 1.
        classes: labels of the protected classes; empty: every class.
        complement_only: train on the unprotected images only. This is the clean-subset baseline,
            the fair reference of a partly poisoned set.
    """

    share: float = 1.0
    classes: tuple[int, ...] = ()
    complement_only: bool = False

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the choice; part of the keys of results."""
        # `alone` is the name in records of every version.
        return {"share": self.share, "classes": self.classes, "alone": self.complement_only}

    def chosen(self, labels: Labels, seed: int) -> Labels:
        """Return the indices of the protected images, ascending.

        With the same seed, a smaller share is a subset of a larger one.
        """
        order = Random(seed, "protected images").permutation(len(labels)).numpy()
        if self.classes:
            order = order[np.isin(labels[order], self.classes)]
        chosen: Labels = np.sort(order[: round(self.share * len(order))])
        return chosen

    def apply(self, clean: ImageSet, poison: Pixels, seed: int) -> tuple[ImageSet, ImageSet]:
        """Return the learner's training set, and the same images without poison.

        Args:
            clean: the training set.
            poison: poisoned images, uint8 [N, H, W, 3], one for each clean image.
            seed: seed of the choice.
        """
        if self == EVERYTHING:
            return clean.replaced(poison), clean
        chosen = self.chosen(clean.labels, seed)
        if self.complement_only:
            rest = clean.subset(np.setdiff1d(np.arange(len(clean)), chosen))
            return rest, rest
        images = clean.images.copy()
        images[chosen] = poison[chosen]
        return clean.replaced(images), clean


EVERYTHING = Protection()
