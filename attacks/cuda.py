"""Class-wise convolutions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, UserError, option
from unlearnable_bench.images import Pixels

_BLOCK = 256  # images convolved together: a few MB in float64


@dataclass(frozen=True, kw_only=True)
class CUDA(Attack):
    """Convolution-based unlearnable data: one random blur per class (Sadasivan et al., CVPR 2023).

    Each class has a kernel with entries U(0, blur), one of which is set to 1. Each image is
    convolved with the kernel of its class and divided by its maximum
    ([arXiv 2303.04278](https://arxiv.org/abs/2303.04278)). No network and no bound on the change;
    not related to NVIDIA CUDA.
    """

    needs = "labels"

    surrogate: ClassVar[Literal["none"]] = "none"

    blur: float = option(
        0.3, "upper bound of the other entries of a kernel, p_b", minimum=0, maximum=1
    )
    size: int = option(3, "side of a kernel in pixels, odd", minimum=1)

    def check(self, images: ImageSet) -> None:
        """Refuse images of one class, and kernels that do not fit.

        Raises:
            UserError: names the size to use.
        """
        if len(np.unique(images.labels)) < 2:
            raise UserError(
                "cuda tells classes apart by their kernels: the training images are of one class; "
                "use images of two classes or more"
            )
        if self.size % 2 == 0:
            better = self.size + 1
            raise UserError(f"cuda.size={self.size} has no centre; use --set cuda.size={better}")
        if self.size > images.size:
            largest = images.size - 1 + images.size % 2
            raise UserError(
                f"cuda.size={self.size} is larger than images of {images.size} px; use "
                f"--set cuda.size={largest} or less"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Convolve each image, divide by its maximum, and truncate to 8 bits."""
        return Poison(self._poisoned(images, harness.seed), Budget("none"))

    def function_of_class(
        self, images: ImageSet, poisoned: Pixels, harness: Harness
    ) -> Callable[[ImageSet], Pixels]:
        """Return the convolution with the kernels, which the seed determines."""
        return lambda others: self._poisoned(others, harness.seed)

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0

    def _poisoned(self, images: ImageSet, seed: int) -> Pixels:
        poisoned = np.empty_like(images.images)
        for label, kernel in enumerate(kernels(images.classes, self.size, self.blur, seed)):
            index = np.flatnonzero(images.labels == label)
            for start in range(0, len(index), _BLOCK):
                part = index[start : start + _BLOCK]
                poisoned[part] = _convolved(images.images[part], kernel)
        return poisoned


def kernels(classes: int, size: int, blur: float, seed: int) -> NDArray[np.float64]:
    """Return a kernel for each class, float64 [C, size, size]; seed 0 is the official code's.

    Args:
        classes: number of classes.
        size: side of a kernel.
        blur: upper bound of the entries other than the one that is 1.
        seed: seed of numpy's legacy generator, which the official code uses.
    """
    random = np.random.RandomState(seed)
    found = np.empty((classes, size, size))
    for kernel in found:
        # The official code draws a kernel for each channel and uses the first for all of them.
        kernel[:] = random.uniform(0, blur, (3, size, size))[0]
        kernel[random.randint(size), random.randint(size)] = 1
    return found


def _convolved(pixels: Pixels, kernel: NDArray[np.float64]) -> Pixels:
    """Return uint8 [N, H, W, 3]: zero-padded correlation of each channel, over its maximum."""
    reach, size = len(kernel) // 2, pixels.shape[1]
    padded = np.zeros((len(pixels), size + 2 * reach, size + 2 * reach, 3))
    padded[:, reach : reach + size, reach : reach + size] = pixels
    total, part = np.zeros(pixels.shape), np.empty(pixels.shape)
    for (row, column), weight in np.ndenumerate(kernel):
        np.multiply(padded[:, row : row + size, column : column + size], weight, out=part)
        total += part
    largest = total.max((1, 2, 3), keepdims=True)
    total *= 255 / np.where(largest > 0, largest, 1)  # a black image stays black
    # 255 / max * max may be just below 255, which truncation would turn into 254.
    truncated: Pixels = np.clip(total + 1e-9, 0, 255).astype(np.uint8)
    return truncated
