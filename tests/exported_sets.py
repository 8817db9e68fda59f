"""Poisoned sets for the tests of exports."""

from typing import Any

import numpy as np
from helpers import random_images

from unlearnable_bench.exporting.content import PoisonedSet
from unlearnable_bench.images import ImageSet

# Two of one name, some that mean splits to `datasets`, and some that no file can be named.
NAMES = (
    *("test", "val", "crane", "crane", "dog/wolf", "été", "img.v2", "train", "eval", "a b", ".x"),
    "日本",
)


def shuffled(images: ImageSet, seed: int) -> ImageSet:
    """Return images whose labels are in no order and leave no class out."""
    labels = np.random.default_rng(seed).permutation(np.arange(len(images)) % len(NAMES))
    return ImageSet(images.images, labels, len(NAMES))


def poisoned_set(*, with_test: bool = True, levels: int = 8, **changed: Any) -> PoisonedSet:
    """Return 120 images of 12 classes, of which every third carries no noise."""
    clean = shuffled(random_images(count=120, size=8, classes=12), 1)
    test = shuffled(random_images(count=24, size=8, classes=12, seed=5), 2)
    noise = np.random.default_rng(3).integers(-levels, levels + 1, clean.images.shape)
    protected = np.arange(120) % 3 != 0
    noise[~protected] = 0
    images = np.clip(clean.images.astype(int) + noise, 0, 255).astype(np.uint8)
    made = {
        "name": "mine-seed-0",
        "clean": clean,
        "images": images,
        "class_names": NAMES,
        "protected": protected,
        "facts": {"dataset": "noise", "method": "mine", "papers": ["https://arxiv.org/abs/1"]},
        "test": test if with_test else None,
    }
    return PoisonedSet(**(made | changed))
