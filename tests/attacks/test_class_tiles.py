"""Class-wise tiles: repeated signs of each class, far from those of the others."""

import numpy as np
import pytest
from helpers import make_harness, random_images

from unlearnable_bench import ImageSet, Radius, Random, UserError
from unlearnable_bench.attacks.class_tiles import ClassTiles, apart


def test_equals_the_rule_value_by_value() -> None:
    images = random_images()
    attack = ClassTiles(cell=1, rho_u=Radius("4/255"))
    poison = attack.generate(images, make_harness(seed=4))
    draws = Random(4, "tiles").integers(2, 4096, 12).numpy().reshape(-1, 2, 2, 3) * 2 - 1
    tiles = apart(draws.astype(np.int8), images.classes)
    assert (tiles[0] == draws[0]).all()
    for image, got, label in zip(images.images, poison.images, images.labels, strict=True):
        for (row, column, channel), level in np.ndenumerate(image):
            sign = int(tiles[label][row % 2, column % 2, channel])
            assert got[row, column, channel] == min(max(int(level) + 4 * sign, 0), 255)
    assert poison.budget.excess(images.images, poison.images) is None


def test_the_next_tile_is_the_farthest_in_all_shifts_and_mirrorings() -> None:
    one = np.ones((2, 2, 3), np.int8)
    corner, shifted = one.copy(), one.copy()
    corner[0, 0, 0] = shifted[1, 1, 0] = -1
    two = one.copy()
    two[0, 0, :2] = -1
    # From the tile with one sign changed, its shifted copy is at 0, `two` at 1, -one at 11.
    tiles = apart(np.array([corner, shifted, two, -one]), 3)
    assert (tiles == [corner, -one, two]).all()


def test_the_pattern_repeats_and_reaches_the_radius() -> None:
    grey = ImageSet(np.full((6, 16, 16, 3), 128, np.uint8), np.arange(6) % 3, 3)
    noise = ClassTiles(cell=3).generate(grey, make_harness()).images.astype(int) - 128
    assert {*np.unique(noise)} <= {-8, 8}
    assert (noise[:, :3, :3] == noise[:, :1, :1]).all()
    assert (noise[:, 6:] == noise[:, :-6]).all()
    assert (noise[:, :, 6:] == noise[:, :, :-6]).all()
    assert (noise[3:] == noise[:3]).all()
    assert len({one.tobytes() for one in noise[:3]}) == 3


def test_tiles_that_do_not_fit_or_are_too_few_are_refused() -> None:
    with pytest.raises(UserError, match=r"16 px does not fit into images of 8 px.*cell=4"):
        ClassTiles(cell=8).check(random_images())
    many = ImageSet(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.int64), 1000)
    with pytest.raises(UserError, match=r"tile=2 gives 128 classes .* has 1000; .*tile=3"):
        ClassTiles().check(many)
