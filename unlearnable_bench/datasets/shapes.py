"""Procedural images that need no download."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.contract import Dataset
from unlearnable_bench.images import Data, ImageSet, Pixels, Transform
from unlearnable_bench.options import option

NAMES = (
    "disc", "ring", "frame", "triangle", "plus", "cross", "rows", "columns", "checks", "diamond",
)  # fmt: skip
_SIZE = 32
_Plane = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Shapes(Dataset):
    """Ten shapes drawn on coloured, cluttered backgrounds, 32 px; embedded, no download."""

    train: int = option(1600, "number of training images", minimum=10)
    test: int = option(500, "number of test images", minimum=10)
    contrast: float = option(
        50.0, "contrast between shape and background in 8-bit levels", minimum=0
    )

    def load(self) -> Data:
        """Draw the images; equal options give equal pixels.

        Shapes are lighter or darker than the background, at random position, size, tilt and
        colour, so that no single pixel predicts the class: as with photographs, shapes take
        longer to learn than a fixed noise pattern. Every class is closed under mirroring.
        """
        random = np.random.default_rng(0)
        count = self.train + self.test
        labels = random.permutation(np.arange(count) % len(NAMES)).astype(np.int64)
        images = np.stack([_draw(label, self.contrast, random) for label in labels])
        train = ImageSet(images[: self.train], labels[: self.train], len(NAMES))
        test = ImageSet(images[self.train :], labels[self.train :], len(NAMES))
        return Data("shapes", train, test, NAMES, Transform(_SIZE // 8, flip=True))


def _draw(label: int, contrast: float, random: np.random.Generator) -> Pixels:
    radius, centre = random.uniform(9, 12), random.uniform(13, 18, 2)
    tilt = 0.12 * random.normal()
    rows, columns = np.mgrid[:_SIZE, :_SIZE]
    down, right = (rows - centre[0]) / radius, (columns - centre[1]) / radius
    v = np.cos(tilt) * down - np.sin(tilt) * right
    u = np.sin(tilt) * down + np.cos(tilt) * right
    ground = random.uniform(75, 180, 3) + 8 * (_clutter(3, random) + _clutter(6, random))
    ink = contrast * random.choice([-1, 1]) * random.uniform(0.5, 1, 3)
    grain = 4 * random.normal(size=(_SIZE, _SIZE, 3))
    image = ground + _inside(label, u, v)[..., None] * ink + grain
    pixels: Pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return pixels


def _clutter(knots: int, random: np.random.Generator) -> _Plane:
    """Return normal noise on a grid of knots x knots points, interpolated linearly."""
    position = np.linspace(0, knots - 1, _SIZE)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(knots)))
    at_knots = random.normal(size=(knots, knots, 3))
    # Summed in a fixed order, since a BLAS may differ in the last bit between machines.
    across = (weights[:, :, None, None] * at_knots).sum(1)
    clutter: _Plane = (weights[None, :, :, None] * across[:, None]).sum(2)
    return clutter


def _inside(label: int, u: _Plane, v: _Plane) -> NDArray[np.bool_]:
    """Return the pixels of a shape, in coordinates in which its half width is about 1."""
    radius, box = np.hypot(u, v), np.maximum(abs(u), abs(v))
    shapes = (
        radius < 0.9,
        (radius < 1) & (radius > 0.6),
        box > 0.5,
        np.maximum(v, 0.87 * abs(u) - v / 2) < 0.5,
        np.minimum(abs(u), abs(v)) < 0.25,
        abs(abs(u) - abs(v)) < 0.3,
        np.sin(8 * v + 0.5) > 0,
        np.sin(8 * u + 0.5) > 0,
        np.sin(8 * u) * np.sin(8 * v) > 0,
        abs(u) + abs(v) < 0.8,
    )
    inside: NDArray[np.bool_] = shapes[label] & (box < 0.9)
    return inside
