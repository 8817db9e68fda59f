"""One-pixel shortcuts: the search by loops, values by hand, and budgets that do not fit."""

import itertools
import statistics
from typing import Any

import numpy as np
import pytest
from attack_table import OFFICIAL
from helpers import make_harness, random_images

from unlearnable_bench import Budget, ImageSet, Radius, UserError
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.attacks.em_ops import EMOPS
from unlearnable_bench.attacks.ops import OPS, marked


def chosen_by_loops(images: ImageSet) -> list[tuple[int, int, tuple[int, ...]]]:
    """Return row, column and colour of each class, from the recipe, in Python's floats."""
    corners = list(itertools.product((0, 1), repeat=3))
    taken: list[Any] = []
    for label in range(images.classes):
        best, choice = -1.0, None
        for row in range(images.size):
            for column in range(images.size):
                for colour in corners:
                    distances = [
                        abs(colour[channel] - float(image[row, column, channel]) / 255)
                        for image, own in zip(images.images, images.labels, strict=True)
                        if own == label
                        for channel in range(3)
                    ]
                    score = statistics.fmean(distances) / statistics.pstdev(distances)
                    if (row, column, colour) in taken:
                        score = 0
                    if score > best:
                        best, choice = score, (row, column, colour)
        taken.append(choice)
    return taken


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_search_by_loops(seed: int) -> None:
    images = random_images(count=40, size=6, classes=4, seed=seed)
    poison = OPS().generate(images, make_harness())
    expected = images.images.copy()
    for label, (row, column, colour) in enumerate(chosen_by_loops(images)):
        expected[images.labels == label, row, column] = 255 * np.array(colour)
    np.testing.assert_array_equal(poison.images, expected)
    assert poison.budget.excess(images.images, poison.images) is None


def grey(levels: list[list[int]], labels: list[int], classes: int = 2) -> ImageSet:
    """Return images of 2x2 grey pixels."""
    pixels = np.array(levels, np.uint8).reshape(-1, 2, 2, 1).repeat(3, 3)
    return ImageSet(pixels, np.array(labels), classes)


def test_the_steadiest_large_difference_wins_and_is_not_taken_twice() -> None:
    """At pixel 2 both images are 20, so white differs by 235/255 with deviation 0."""
    images = grey([[0, 90, 20, 200], [60, 10, 20, 255]] * 2, [0, 0, 1, 1])
    poison = OPS().generate(images, make_harness()).images[..., 0]
    assert poison[0].tolist() == [[0, 90], [0, 200]]
    # Black also differs by a constant, 20/255, and is the first of the infinite scores; class 1
    # gets the next of the colours whose distances to grey 20 are equal in all channels: white.
    assert poison[2].tolist() == [[0, 90], [255, 200]]


def test_a_colour_that_the_pixel_has_already_is_no_shortcut() -> None:
    """Pixel 0 is always black: black scores 0, white has a constant difference of 1."""
    images = grey([[0, 10, 40, 90], [0, 80, 10, 20]], [0, 0])
    poison = OPS().generate(images, make_harness()).images[..., 0]
    assert poison[:, 0, 0].tolist() == [255, 255]


def test_sparsity_changes_that_many_pixels() -> None:
    images = random_images(count=60, size=8)
    poison = OPS(sparsity=5).generate(images, make_harness())
    changed = (poison.images != images.images).any(3).sum((1, 2))
    assert changed.max() == 5
    assert poison.budget.radius == 5
    assert poison.budget.excess(images.images, poison.images) is None
    one = OPS().generate(images, make_harness()).images
    first = (one != images.images).any(3)
    assert (one[first] == poison.images[first]).all()


def test_a_class_without_images_takes_no_pixel() -> None:
    images = random_images(count=30, size=6, classes=3)
    wider = ImageSet(images.images, images.labels + 1, 4)
    np.testing.assert_array_equal(
        OPS().generate(images, make_harness()).images, OPS().generate(wider, make_harness()).images
    )


def test_more_pixels_than_the_image_has_are_refused() -> None:
    words = r"ops\.sparsity=65 is too large for 3 classes of 8 px .* use --set ops\.sparsity=64 "
    with pytest.raises(UserError, match=words):
        OPS(sparsity=65).check(random_images(size=8))
    OPS(sparsity=64).check(random_images(size=8))
    with pytest.raises(UserError, match=r"sparsity must be at least 1"):
        OPS(sparsity=0)


def test_more_classes_than_pairs_of_pixel_and_colour_are_refused() -> None:
    many = ImageSet(np.zeros((33, 2, 2, 3), np.uint8), np.arange(33), 33)
    with pytest.raises(UserError, match="2 px have 32 of these, the data has 33 classes"):
        OPS().check(many)
    with pytest.raises(UserError, match=r"use --set ops\.sparsity=2 or less"):
        OPS(sparsity=3).check(ImageSet(many.images[:16], np.arange(16), 16))


def test_on_top_of_em_the_pixels_are_those_of_the_clean_images() -> None:
    images = random_images(30)
    noisy = EM(**OFFICIAL).generate(images, make_harness()).images
    clean = OPS(sparsity=2).generate(images, make_harness()).images
    both = EMOPS(**OFFICIAL, sparsity=2).generate(images, make_harness())
    places = (marked(images, np.full_like(noisy, 128), 2) != 128).any(3)
    assert (places.sum((1, 2)) == 2).all()
    np.testing.assert_array_equal(both.images[places], clean[places])
    np.testing.assert_array_equal(both.images[~places], noisy[~places])
    assert (both.budget, both.notes["rounds"]) == (Budget("none"), 2)


def test_on_top_of_em_too_many_pixels_are_refused() -> None:
    with pytest.raises(UserError, match=r"em-ops\.sparsity=65 is too large .* em-ops\.sparsity=64"):
        EMOPS(sparsity=65).check(random_images())
    with pytest.raises(UserError, match=r"alpha_u=0: the noise starts at 0"):
        EMOPS(alpha_u=Radius("0")).check(random_images())
