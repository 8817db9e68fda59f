"""One-pixel shortcuts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, UserError, option
from unlearnable_bench.images import Pixels

# The corners of the colour cube, [8, 3]: each channel is 0 or 1.
_CORNERS = np.array([[k >> 2 & 1, k >> 1 & 1, k & 1] for k in range(8)], np.int64)
_BLOCK = 1024  # images whose squares are held in 32 bits together


@dataclass(frozen=True, kw_only=True)
class OPS(Attack):
    """One-pixel shortcut: the same pixel of each class gets the same colour (Wu et al., ICLR 2023).

    For each class, the position and the corner colour of the RGB cube with the largest mean of
    |colour - pixel|, divided by its standard deviation over the images of the class and the
    channels ([arXiv 2205.12141](https://arxiv.org/abs/2205.12141)). A pair of an earlier class is
    not taken again. No network; the budget is L0.
    """

    needs = "labels"
    seeded: ClassVar[bool] = False

    surrogate: ClassVar[Literal["none"]] = "none"

    sparsity: int = option(1, "number of pixels changed in an image", minimum=1)

    def check(self, images: ImageSet) -> None:
        """Refuse more pixels than an image has, or more pairs than there are.

        Raises:
            UserError: names the largest number of pixels.
        """
        check_sparsity("ops", self.sparsity, images)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Set the chosen pixels of each class to their colours."""
        poisoned = marked(images, images.images, self.sparsity)
        return Poison(poisoned, Budget("l0", self.sparsity))

    def function_of_class(
        self, images: ImageSet, poisoned: Pixels, harness: Harness
    ) -> Callable[[ImageSet], Pixels]:
        """Return the setting of the pixels that the poison has set in each class."""
        marks = {}
        for label in np.unique(images.labels):
            index = np.flatnonzero(images.labels == label)
            places = (images.images[index] != poisoned[index]).any((0, 3))
            marks[int(label)] = places, poisoned[index[0]][places]

        def mark(others: ImageSet) -> Pixels:
            found = others.images.copy()
            for label, (places, colours) in marks.items():
                index = np.flatnonzero(others.labels == label)
                found[index[:, None], *np.nonzero(places)] = colours
            return found

        return mark

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0


def check_sparsity(name: str, sparsity: int, images: ImageSet) -> None:
    """Refuse more pixels than an image has, or more pairs than there are.

    Raises:
        UserError: names the largest number of pixels.
    """
    pixels = images.size**2
    most = min(pixels, len(_CORNERS) * pixels // images.classes)
    if not most:
        raise UserError(
            f"{name} marks each class with a pixel and one of 8 colours: {images.size} px have "
            f"{len(_CORNERS) * pixels} of these, the data has {images.classes} classes; use "
            "larger images"
        )
    if sparsity > most:
        raise UserError(
            f"{name}.sparsity={sparsity} is too large for {images.classes} classes of "
            f"{images.size} px ({pixels} pixels in 8 colours); use --set {name}.sparsity={most} "
            "or less"
        )


def marked(clean: ImageSet, base: Pixels, sparsity: int) -> Pixels:
    """Return a copy of images in which the pixels of each class have their colours.

    Args:
        clean: the clean images, by which pixels and colours are chosen.
        base: the images to change, uint8 [N, H, W, 3].
        sparsity: number of pixels.
    """
    poisoned = base.copy()
    taken = np.zeros((clean.size, clean.size, len(_CORNERS)), bool)
    for label in range(clean.classes):
        index = np.flatnonzero(clean.labels == label)
        if not len(index):
            continue
        scores = _scores(clean.images, index)
        scores[taken] = 0
        # The best colour of each position, then the best positions; the first of equal ones.
        best = scores.max(2).ravel()
        for place in np.argsort(-best, kind="stable")[:sparsity]:
            row, column = divmod(int(place), clean.size)
            colour = int(scores[row, column].argmax())
            taken[row, column, colour] = True
            poisoned[index, row, column] = 255 * _CORNERS[colour]
    return poisoned


def _scores(pixels: Pixels, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return mean / standard deviation of |colour - pixel| for each position and corner colour.

    Args:
        pixels: images, uint8 [N, H, W, 3].
        index: the images of a class, int64 [n].

    Returns:
        Scores, float64 [H, W, 8]; infinite for a constant difference above 0, and 0 for none.
    """
    shape = pixels.shape[1:]
    sums, squares = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for start in range(0, len(index), _BLOCK):
        part = pixels[index[start : start + _BLOCK]]
        sums += part.sum(0, dtype=np.int64)
        squares += np.square(part, dtype=np.uint32).sum(0, dtype=np.int64)
    # |255 - p| sums to 255 n - S, its square to 255^2 n - 2 * 255 S + Q. In whole numbers a
    # constant difference has variance 0, without rounding.
    n = len(index)
    both = np.stack([sums, 255 * n - sums]), np.stack([squares, 65025 * n - 510 * sums + squares])
    # Of each channel the values of the 8 colours, added over the channels.
    total, square = (values[_CORNERS, :, :, range(3)].sum(1).transpose(1, 2, 0) for values in both)
    variance = 3 * n * square - total**2
    scores = np.where(total > 0, np.inf, 0.0)
    np.divide(total, np.sqrt(variance), out=scores, where=variance > 0)
    return scores
