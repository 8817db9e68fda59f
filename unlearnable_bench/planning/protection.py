"""Which training images are protected: all, a random share, or those of some classes."""

from dataclasses import dataclass

import numpy as np

from unlearnable_bench.harness import Random
from unlearnable_bench.images import ImageSet, Labels, Pixels


@dataclass(frozen=True)
class Protection:
    """The images that carry the poison; the others stay clean.

    Attributes:
        share: of the images (of the protected classes), above 0, at most 1.
        classes: labels of the protected classes; none: every class.
        alone: leave the protected images out instead: what the others teach by themselves
            is the fair reference of a partly protected set.
    """

    share: float = 1.0
    classes: tuple[int, ...] = ()
    alone: bool = False

    def chosen(self, labels: Labels, seed: int) -> Labels:
        """Return the indices of the protected images, ascending.

        For one seed the images of a smaller share are among those of a larger one.
        """
        order = Random(seed, "protected images").permutation(len(labels)).numpy()
        if self.classes:
            order = order[np.isin(labels[order], self.classes)]
        chosen: Labels = np.sort(order[: round(self.share * len(order))])
        return chosen

    def apply(self, clean: ImageSet, poison: Pixels, seed: int) -> tuple[ImageSet, ImageSet]:
        """Return what the learner gets, and the same images without poison.

        Args:
            clean: the training set.
            poison: uint8 [N, H, W, 3], of every image.
            seed: decides the choice.
        """
        if self == EVERYTHING:
            return clean.replaced(poison), clean
        chosen = self.chosen(clean.labels, seed)
        if self.alone:
            rest = clean.subset(np.setdiff1d(np.arange(len(clean)), chosen))
            return rest, rest
        images = clean.images.copy()
        images[chosen] = poison[chosen]
        return clean.replaced(images), clean


EVERYTHING = Protection()
