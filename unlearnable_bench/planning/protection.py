"""Which training images are poisoned: all, a random share, or those of some classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Random
from unlearnable_bench.images import Data, ImageSet, Labels, Pixels
from unlearnable_bench.planning.class_names import labels_of


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


def protections_of(
    data: Data, shares: Sequence[float], names: Sequence[str]
) -> dict[bool, list[Protection]]:
    """Return the protections of a method (False) and of the clean control (True).

    Args:
        data: the data set.
        shares: shares of the images to protect.
        names: classes to protect, as `labels_of` takes them; empty: all.

    Raises:
        UserError: an unknown class, or a share that protects no image or leaves none clean.
    """
    classes = labels_of(data, names)
    for share in shares:
        if not 0 < share <= 1:
            raise UserError(
                f"--protect takes shares above 0 and at most 1, such as 0.2; got {share:g}"
            )
    parts = [Protection(share, classes) for share in dict.fromkeys(shares)]
    for part in parts:
        count = len(part.chosen(data.train.labels, 0))
        if not count or (part.share < 1 and count == len(data.train)):
            raise UserError(
                f"--protect {part.share:g} of {data.name} protects {count} of "
                f"{len(data.train)} images; choose a share that poisons some and leaves some clean"
            )
    # Partly protecting the clean set changes nothing; its fair reference is the complement.
    return {False: parts, True: [replace(part, complement_only=part.share < 1) for part in parts]}
