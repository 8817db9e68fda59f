"""Partly protected sets: which images carry the poison, and the fair reference."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import random_images
from hypothesis import given
from hypothesis import strategies as st

from unlearnable_bench import UserError, api
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.planning.protection import EVERYTHING, Protection
from unlearnable_bench.results.store import ResultsFolder

IMAGES = random_images(count=40, classes=4)
POISON = 255 - IMAGES.images


@given(st.floats(0.01, 1.0), st.integers(0, 3))
def test_so_many_images_are_protected(share: float, seed: int) -> None:
    chosen = Protection(share).chosen(IMAGES.labels, seed)
    assert len(set(chosen)) == round(share * 40)
    assert (np.diff(chosen) > 0).all()


def test_a_smaller_share_is_part_of_a_larger_one_and_seeds_differ() -> None:
    small, large = (set(Protection(share).chosen(IMAGES.labels, 3)) for share in (0.3, 0.7))
    assert small < large
    assert small != set(Protection(0.3).chosen(IMAGES.labels, 4))


def test_protected_images_are_poisoned_and_the_others_clean() -> None:
    protection = Protection(0.25)
    got, clean = protection.apply(IMAGES, POISON, 1)
    chosen = np.isin(np.arange(40), protection.chosen(IMAGES.labels, 1))
    np.testing.assert_array_equal(got.images[chosen], POISON[chosen])
    np.testing.assert_array_equal(got.images[~chosen], IMAGES.images[~chosen])
    np.testing.assert_array_equal(got.labels, IMAGES.labels)
    assert clean is IMAGES


def test_the_remainder_is_what_is_not_protected() -> None:
    got, clean = Protection(0.25, complement_only=True).apply(IMAGES, POISON, 1)
    left = np.setdiff1d(np.arange(40), Protection(0.25).chosen(IMAGES.labels, 1))
    np.testing.assert_array_equal(got.images, IMAGES.images[left])
    np.testing.assert_array_equal(got.labels, IMAGES.labels[left])
    assert clean is got


def test_only_the_named_classes_are_protected() -> None:
    chosen = Protection(1.0, (1, 3)).chosen(IMAGES.labels, 0)
    np.testing.assert_array_equal(chosen, np.flatnonzero(np.isin(IMAGES.labels, (1, 3))))
    half = Protection(0.5, (1,)).chosen(IMAGES.labels, 0)
    assert set(IMAGES.labels[half]) == {1}
    assert len(half) == round(0.5 * (IMAGES.labels == 1).sum())


def test_everything_is_the_poison_itself() -> None:
    got, clean = EVERYTHING.apply(IMAGES, POISON, 0)
    assert np.shares_memory(got.images, POISON)
    assert clean is IMAGES


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "tiny.npz"
    images, test = random_images(60, 16, 4), random_images(30, 16, 4, seed=1)
    np.savez(
        path,
        x_train=images.images,
        y_train=images.labels,
        x_test=test.images,
        y_test=test.labels,
        class_names=np.array(["ant", "bee", "cat", "dog"]),
    )
    return f"npz:{path}"


def plan(data: str, **asked: Any) -> Plan:
    settings = {"training.epochs": "2"}
    return make_plan(methods=["random"], dataset=data, settings=settings, **asked)


def test_the_reference_of_a_share_is_the_remainder(data: str) -> None:
    cells = plan(data, protect=[0.25, 1.0]).cells
    assert [(c.attack_label, c.protection.share) for c in cells] == [
        *(("remainder", 0.25), ("clean", 1.0)),
        *(("random", 0.25), ("random", 1.0)),
    ]
    assert [c.protection.complement_only for c in cells] == [True, False, False, False]
    assert [c.images for c in cells] == [45, 60, 60, 60]
    assert len({c.key for c in cells}) == 4
    assert {c.poison.key for c in cells[2:]} == {cells[3].poison.key}


def test_a_fully_protected_cell_is_the_same_with_and_without_the_option(data: str) -> None:
    assert plan(data, protect=[1.0]).key == plan(data).key


def test_protected_classes_show_in_the_title_and_the_address(data: str) -> None:
    part = plan(data, protect_classes=["cat", "dog"])
    assert part.preset_label == "smoke[training.epochs=2][protect_classes=cat,dog]"
    assert not {c.key for c in part.cells} & {c.key for c in plan(data).cells}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"protect": [0.0]}, "shares above 0"),
        ({"protect": [1.5]}, "at most 1.*got 1.5"),
        ({"protect": [float("nan")]}, "got nan"),
        ({"protect": [0.001]}, "protects 0 of 60 images"),
        ({"protect": [0.999]}, "protects 60 of 60 images"),
        ({"protect_classes": ["cow"]}, "unknown class of npz:tiny 'cow'.*ant, bee, cat, dog"),
    ],
)
def test_what_cannot_be_protected_is_refused(
    data: str, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan(data, **asked)


def test_records_hold_share_and_accuracy_of_the_protected_classes(
    data: str, tmp_path: Path
) -> None:
    asked = plan(data, protect=[0.5], protect_classes=["bee"])
    summary = api.run(asked, tmp_path / "out", device="cpu")
    assert (summary.computed, summary.failures) == (2, ())
    for record in ResultsFolder(tmp_path / "out").records():
        assert record.protect == 0.5
        assert record.protected_accuracy is not None
    api.run(plan(data), tmp_path / "out", device="cpu")
    frame = api.load_records(tmp_path / "out")
    assert frame["protected_accuracy"].isna().tolist() == [False, False, True, True]
