"""Generated classes: what the pictures of one person are told apart from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.images import ImageSet, Pixels

CLASSES = 9  # so that the task has ten, as the sets on which methods are published
_MEAN, _CONTRAST = (80.0, 176.0), (25.0, 55.0)  # of the images of a class, in levels


@dataclass(frozen=True)
class Textures:
    """Seeded synthetic textures: random fields with a spectrum that falls as in photographs.

    Attributes:
        each: number of images of a class.
        seed: seed of all of them.
    """

    each: int
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each class."""
        return tuple(f"generated texture {k + 1}" for k in range(CLASSES))

    def images(self, size: int, first: int) -> ImageSet:
        """Return the images; those of a class share slope, direction and colours.

        Args:
            size: height and width in pixels.
            first: label of the first class.
        """
        made: list[Pixels] = []
        for label in range(CLASSES):
            random = np.random.default_rng([self.seed, label])
            slope, angle = random.uniform(0.8, 1.8), random.uniform(0, np.pi)
            stretch, colour = random.uniform(1, 4), random.normal(0, 1, (3, 3))
            mean = random.uniform(*_MEAN, 3)
            filters = _filter(size, slope, angle, stretch)
            made += [_texture(random, filters, colour, mean) for _ in range(self.each)]
        labels = first + np.repeat(np.arange(CLASSES), self.each)
        return ImageSet(np.stack(made), labels.astype(np.int64), first + CLASSES)


def textures(each: int, seed: int) -> Textures:
    """Return nine classes with as many images each as the person has pictures."""
    return Textures(each, seed)


def _filter(size: int, slope: float, angle: float, stretch: float) -> NDArray[np.float64]:
    """Return amplitudes of frequencies, float64 [size, size]: 1 / f^slope, stretched."""
    rows, columns = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = -np.sin(angle) * columns + np.cos(angle) * rows
    frequency = np.sqrt(along**2 + (stretch * across) ** 2)
    amplitude = np.maximum(frequency, 1 / size) ** -slope
    amplitude[0, 0] = 0
    found: NDArray[np.float64] = amplitude
    return found


def _texture(
    random: np.random.Generator,
    filters: NDArray[np.float64],
    colour: NDArray[np.float64],
    mean: NDArray[np.float64],
) -> Pixels:
    """Return one image, uint8 [size, size, 3], with its own light."""
    white = random.normal(size=(3, *filters.shape))
    fields = np.fft.ifft2(np.fft.fft2(white) * filters).real
    mixed = np.einsum("ck,khw->hwc", colour, fields)
    mixed *= random.uniform(*_CONTRAST) / mixed.std()
    light = mean + random.normal(0, 15)
    found: Pixels = np.clip(np.rint(light + mixed), 0, 255).astype(np.uint8)
    return found
