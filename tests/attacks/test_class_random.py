"""Random patterns of classes: one for each class, uniform in the ball."""

import numpy as np
from helpers import make_harness, random_images
from scipy import stats

from unlearnable_bench import ImageSet, Radius, Random
from unlearnable_bench.attacks.class_random import ClassRandom


def test_equals_the_same_draws_added_image_by_image() -> None:
    images = random_images()
    poison = ClassRandom().generate(images, make_harness(seed=4))
    draws = Random(4, "noise").integers(17, images.classes, 8, 8, 3).numpy()
    for image, got, label in zip(images.images, poison.images, images.labels, strict=True):
        for place, level in np.ndenumerate(image):
            assert got[place] == min(max(int(level) + int(draws[label][place]) - 8, 0), 255)
    assert poison.budget.excess(images.images, poison.images) is None


def test_patterns_are_uniform_and_differ_between_classes() -> None:
    grey = ImageSet(np.full((8, 32, 32, 3), 128, np.uint8), np.arange(8) % 2, 2)
    poison = ClassRandom(rho_u=Radius("4/255")).generate(grey, make_harness()).images
    noise = poison.astype(int) - 128
    assert (noise[::2] == noise[0]).all()
    assert (noise[1::2] == noise[1]).all()
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.06
    counts = np.bincount(noise[:2].ravel() + 4, minlength=9)
    assert len(counts) == 9
    assert stats.chisquare(counts).pvalue > 0.001
