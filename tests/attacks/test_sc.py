"""Synthetic shortcuts: budget, clusters, and the official construction."""

import numpy as np
import pytest
from helpers import make_harness, random_images
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from unlearnable_bench import ImageSet, Radius, UserError
from unlearnable_bench.attacks.sc import SC


def balanced(count: int = 120, classes: int = 4) -> ImageSet:
    images = np.full((count, 32, 32, 3), 128, np.uint8)
    return ImageSet(images, np.arange(count, dtype=np.int64) % classes, classes)


def test_equals_the_official_construction_by_loops() -> None:
    images, classes = balanced(), 4
    patterns, clusters = make_classification(
        n_samples=120, n_features=48, n_informative=48, n_redundant=0, n_classes=classes,
        n_clusters_per_class=1, class_sep=10.0, flip_y=0, random_state=1,
    )  # fmt: skip
    poison = SC().generate(images, make_harness()).images
    queues = {label: list(patterns[clusters == label]) for label in range(classes)}
    for i, label in enumerate(images.labels):
        features = queues[int(label)].pop(0)
        noise = np.empty((32, 32, 3))
        for row in range(32):
            for column in range(32):
                for channel in range(3):
                    noise[row, column, channel] = features[
                        ((row // 8) * 4 + column // 8) * 3 + channel
                    ]
        noise *= np.sqrt((6 / 255) ** 2 * 3072) / np.linalg.norm(noise)
        exact = 255 * (images.images[i] / 255 + noise)
        # Truncation: where the exact value is whole, either neighbour is right.
        whole = np.abs(exact - np.rint(exact)) < 1e-6
        assert (np.abs(poison[i] - np.floor(exact)) <= whole).all()


def test_keeps_its_own_budget_and_exceeds_the_ball() -> None:
    images = balanced()
    poison = SC().generate(images, make_harness())
    assert poison.budget.norm == "l2"
    assert poison.budget.radius == pytest.approx(np.sqrt((6 / 255) ** 2 * 3072))
    assert poison.budget.excess(images.images, poison.images) is None
    change = poison.images.astype(int) - images.images
    assert np.abs(change).max() > 8


def test_can_be_clipped_to_the_ball() -> None:
    images = balanced()
    poison = SC(rho_u=Radius("8/255")).generate(images, make_harness())
    assert poison.budget.norm == "linf"
    assert np.abs(poison.images.astype(int) - images.images).max() == 8


def test_a_linear_classifier_reads_the_class_from_the_noise() -> None:
    images = balanced(200)
    change = SC().generate(images, make_harness()).images.astype(float) - images.images
    features = change.reshape(200, -1)[:, ::7]
    model = LogisticRegression(max_iter=200).fit(features[:100], images.labels[:100])
    assert model.score(features[100:], images.labels[100:]) > 0.95


def test_unbalanced_classes_each_get_patterns_of_their_own() -> None:
    labels = np.array([0] * 50 + [1] * 7 + [2] * 3, np.int64)
    images = ImageSet(np.full((60, 32, 32, 3), 128, np.uint8), labels, 3)
    poison = SC().generate(images, make_harness()).images
    assert len(np.unique(poison.reshape(60, -1), axis=0)) == 60


def test_a_patch_that_does_not_divide_the_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"sc\.patch=5"):
        SC(patch=5).check(random_images())


@given(
    st.integers(0, 2**31 - 2),
    st.sampled_from([(16, 8), (8, 8), (28, 14), (32, 16), (12, 4), (9, 3)]),
    st.integers(2, 20),
    st.sampled_from([0.5, 1.0, 6.0, 20.0]),
    st.sampled_from([0, 1, 128, 255]),
)
@settings(max_examples=200, deadline=None)
def test_the_l2_budget_is_kept_for_every_seed(
    seed: int, form: tuple[int, int], classes: int, strength: float, level: int
) -> None:
    size, patch = form
    classes = min(classes, 2 ** (3 * (size // patch) ** 2))
    pixels = np.full((3 * classes, size, size, 3), level, np.uint8)
    images = ImageSet(pixels, np.arange(3 * classes) % classes, classes)
    attack = SC(patch=patch, strength=strength)
    attack.check(images)
    poison = attack.generate(images, make_harness(seed=seed))
    assert poison.budget.radius == pytest.approx(strength / 255 * np.sqrt(3 * size**2))
    assert poison.budget.excess(images.images, poison.images) is None


@pytest.mark.parametrize(
    ("size", "patch", "classes", "enough", "possible"),
    [(32, 32, 10, 8, 16), (28, 28, 9, 8, 14), (15, 15, 1000, 8, 5), (7, 7, 100, 8, 1)],
)
def test_more_classes_than_corners_are_refused_before_any_work(
    size: int, patch: int, classes: int, enough: int, possible: int
) -> None:
    images = ImageSet(np.zeros((classes, size, size, 3), np.uint8), np.arange(classes), classes)
    words = rf"enough for {enough} classes; the data has {classes}; use --set sc\.patch={possible} "
    with pytest.raises(UserError, match=words):
        SC(patch=patch).check(images)
    SC(patch=possible).check(images)
    most = ImageSet(images.images[:enough], np.arange(enough), enough)
    attack = SC(patch=patch)
    attack.check(most)
    attack.generate(most, make_harness())
