"""A small random tile of each class, repeated over the image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, Radius, UserError, option
from unlearnable_bench.attacks._class_noise import with_patterns
from unlearnable_bench.images import Pixels

Tiles = NDArray[np.int8]

_DRAWS = 1 << 12  # as many as there are tiles of 2x2 cells in three channels


@dataclass(frozen=True, kw_only=True)
class ClassTiles(Attack):
    """One tile of random signs per class, repeated over the image.

    poison = clip(x + k t_y[i // cell mod tile, j // cell mod tile], 0, 255) with signs t_c in
    {-1, 1} for each cell and channel, and k = floor(255 rho_u). Crops and mirrored images shift or
    mirror a tile, so tiles are chosen far from each other in all shifts and mirrorings. This
    suite's own method, for `ubench protect`; no network.
    """

    needs = "labels"

    surrogate: ClassVar[Literal["none"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    cell: int = option(2, "side of a cell of one value in pixels", minimum=1)
    tile: int = option(2, "side of the repeated tile in cells", minimum=1, maximum=16)

    def check(self, images: ImageSet) -> None:
        """Refuse images smaller than a tile, and more classes than there are tiles.

        Raises:
            UserError: names the option to change.
        """
        side = self.cell * self.tile
        if side > images.size:
            raise UserError(
                f"class-tiles: a tile of {side} px does not fit into images of {images.size} px; "
                f"use --set class-tiles.cell={max(1, images.size // self.tile)}"
            )
        if images.classes > _most(self.tile):
            raise UserError(
                f"class-tiles.tile={self.tile} gives {_most(self.tile)} classes patterns of their "
                f"own, the data has {images.classes}; use --set class-tiles.tile={self.tile + 1}"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Add the tiles of its class to each image."""
        return Poison(self._poisoned(images, harness), Budget("linf", self.rho_u))

    def function_of_class(
        self, images: ImageSet, poisoned: Pixels, harness: Harness
    ) -> Callable[[ImageSet], Pixels]:
        """Return the addition of the tiles, which the seed determines."""
        return lambda others: self._poisoned(others, harness)

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0

    def _poisoned(self, images: ImageSet, harness: Harness) -> Pixels:
        count = 3 * self.tile**2
        draws = harness.random("tiles").integers(2, _DRAWS, count).cpu().numpy()
        drawn = (2 * draws - 1).astype(np.int8).reshape(-1, self.tile, self.tile, 3)
        tiles = apart(drawn, images.classes)
        place = np.arange(images.size) // self.cell % self.tile
        patterns = self.rho_u.levels * tiles[:, place][:, :, place].astype(np.float32)
        return with_patterns(images, patterns, self.rho_u)


def apart(drawn: Tiles, classes: int) -> Tiles:
    """Return the tiles of the classes: the first, then each time the farthest from those chosen.

    The distance of two tiles is the number of signs in which they differ at the best of all
    shifts and mirrorings.

    Args:
        drawn: candidates, int8 [D, T, T, 3] of -1 and 1.
        classes: number of tiles to choose.

    Returns:
        int8 [classes, T, T, 3].
    """
    flat = drawn.reshape(len(drawn), -1).astype(np.float32)
    nearest = np.full(len(drawn), np.inf, np.float32)
    chosen = [0]
    for _ in range(classes - 1):
        turned = _moved(drawn[chosen[-1]]).reshape(-1, flat.shape[1]).astype(np.float32)
        np.minimum(nearest, (flat.shape[1] - (flat @ turned.T).max(1)) / 2, out=nearest)
        chosen.append(int(nearest.argmax()))
    return drawn[chosen]


def _moved(tile: Tiles) -> Tiles:
    """Return a tile, int8 [T, T, 3], in all shifts, mirrored and not: int8 [2 T T, T, T, 3]."""
    side = len(tile)
    return np.array(
        [
            np.roll(one, (down, right), (0, 1))
            for one in (tile, tile[:, ::-1])
            for down in range(side)
            for right in range(side)
        ]
    )


def _most(tile: int) -> int:
    """Return the number of classes that is sure to be possible, a tenth of the distinct tiles."""
    return int(min(2 ** min(3 * tile**2, 40) / (2 * tile**2) / 4, _DRAWS / 10))
