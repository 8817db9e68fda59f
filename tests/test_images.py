"""Noise keeps its budget after rounding, an excess is found, and odd data is refused."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torchvision.transforms.v2 import functional as vision

from unlearnable_bench import (
    Budget,
    Data,
    ImageSet,
    Poison,
    Radius,
    ResizedCrop,
    Transform,
    UserError,
    add_noise,
)
from unlearnable_bench.images import centre

SHAPE = (2, 3, 3, 3)
SHIFT = Transform(1, flip=True)
pixels = arrays.arrays(np.uint8, SHAPE)
radii = st.builds(
    lambda numerator, share: Radius(f"{numerator}/{numerator + share}"),
    st.integers(0, 1000),
    st.integers(1, 30_000),
)
floats = arrays.arrays(np.float64, SHAPE, elements=st.floats(allow_nan=False, allow_infinity=False))
small = arrays.arrays(np.float32, SHAPE, elements=st.floats(-20, 20, width=32))


@given(pixels, st.one_of(floats, small), radii)
def test_noise_of_any_size_stays_in_the_ball(
    clean: np.ndarray, noise: np.ndarray, radius: Radius
) -> None:
    poison = add_noise(clean, noise, radius)
    assert poison.dtype == np.uint8
    change = poison.astype(int) - clean.astype(int)
    assert int(np.abs(change).max()) <= 255 * radius.value
    assert Budget("linf", radius).excess(clean, poison) is None


@given(pixels, small, radii)
def test_noise_is_rounded_and_both_sums_are_clipped(
    clean: np.ndarray, noise: np.ndarray, radius: Radius
) -> None:
    poison = add_noise(clean, noise, radius)
    for at in np.ndindex(SHAPE):
        level = max(-radius.levels, min(radius.levels, round(float(noise[at]))))
        assert poison[at] == max(0, min(255, int(clean[at]) + level))


def test_negative_noise_is_not_lost() -> None:
    clean = np.full(SHAPE, 100, np.uint8)
    assert (add_noise(clean, np.full(SHAPE, -8.0), Radius("8/255")) == 92).all()


@given(pixels, radii, st.integers(0, 53), st.booleans())
def test_one_value_over_by_one_level_is_an_excess(
    clean: np.ndarray, radius: Radius, where: int, up: bool
) -> None:
    if radius.levels > 100:
        return
    flat = clean.reshape(-1)
    flat[where] = 100 if up else 155
    poison = clean.copy()
    budget = Budget("linf", radius)
    sign = 1 if up else -1
    poison.reshape(-1)[where] = int(flat[where]) + sign * radius.levels
    assert budget.excess(clean, poison) is None
    poison.reshape(-1)[where] = int(flat[where]) + sign * (radius.levels + 1)
    found = budget.excess(clean, poison)
    assert found is not None
    assert f"{radius.levels + 1}/255 at image {where // 27}" in found


def test_the_worst_image_is_named_beyond_the_first_part() -> None:
    clean = np.zeros((5000, 1, 1, 3), np.uint8)
    poison = clean.copy()
    poison[4200, 0, 0, 1] = 12
    poison[4999, 0, 0, 2] = 13
    found = Budget("linf", Radius("8/255")).excess(clean, poison)
    assert found == "linf 13/255 at image 4999, promised 8/255"


@given(st.integers(1, 200))
def test_the_l2_norm_is_that_of_an_image(level: int) -> None:
    clean = np.zeros((2, 4, 4, 3), np.uint8)
    poison = clean.copy()
    poison[1] = level
    norm = level * np.sqrt(48) / 255
    assert Budget("l2", norm).excess(clean, poison) is None
    truncation = min(np.sqrt(48) / 255, norm / 2)
    assert Budget("l2", norm - 0.99 * truncation).excess(clean, poison) is None
    found = Budget("l2", norm - 1.01 * truncation).excess(clean, poison)
    assert found is not None
    assert found.startswith("l2 ")
    assert "at image 1" in found


def test_truncation_at_most_doubles_a_small_l2_norm() -> None:
    clean = np.zeros((1, 4, 4, 3), np.uint8)
    norm = np.sqrt(48) / 255
    assert Budget("l2", 0.51 * norm).excess(clean, clean + np.uint8(1)) is None
    assert Budget("l2", 0.49 * norm).excess(clean, clean + np.uint8(1)) is not None


@pytest.mark.parametrize(
    ("norm", "radius", "words"),
    [
        ("l1", 1.0, "unknown norm of a budget 'l1'"),
        ("linf", 8 / 255, r"Budget\('linf', 0\.031.*write Radius\('8/255'\)"),
        ("l2", -1.0, "the radius is a number from 0"),
        ("l2", math.nan, "the radius is a number from 0"),
        ("l2", "much", "the radius is a number from 0"),
    ],
)
def test_a_budget_that_promises_nothing_is_refused(norm: Any, radius: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Budget(norm, radius)


def test_an_l2_radius_is_a_plain_number() -> None:
    assert type(Budget("l2", np.float32(0.5)).radius) is float
    assert Budget("l2", Radius("51/255")).radius == 0.2


def test_notes_are_finite_numbers() -> None:
    images = np.zeros((1, 1, 1, 3), np.uint8)
    budget = Budget("l2", 0.0)
    given: Any = {"rounds": 3, "loss": np.float32(0.5), "error": torch.tensor(0.25)}
    notes = Poison(images, budget, given).notes
    assert notes == {"rounds": 3.0, "loss": 0.5, "error": 0.25}
    assert {type(value) for value in notes.values()} == {float}
    wrong: list[Any] = [math.nan, math.inf, "three", None, 10**400]
    for value in wrong:
        with pytest.raises(UserError, match=r"note 'rounds' is .*; notes are finite numbers"):
            Poison(images, budget, {"rounds": value})


@given(pixels)
def test_clean_images_keep_any_budget(clean: np.ndarray) -> None:
    assert Budget("linf", Radius("0")).excess(clean, clean) is None
    assert Budget("l2", 0.0).excess(clean, clean) is None


def image_set(count: int = 4, size: int = 5, labels: Any = None) -> ImageSet:
    images = np.zeros((count, size, size, 3), np.uint8)
    given = np.arange(count) % 2 if labels is None else np.asarray(labels)
    return ImageSet(images, given.astype(np.int64), 2)


def data(
    train: ImageSet | None = None,
    test: ImageSet | None = None,
    names: int = 2,
    transform: Transform | ResizedCrop = SHIFT,
) -> Data:
    train = image_set() if train is None else train
    test = image_set(3) if test is None else test
    return Data("odd", train, test, tuple("abcdef"[:names]), transform)


def test_good_data_is_taken() -> None:
    taken = data()
    assert (len(taken.train), len(taken.test), taken.train.size) == (4, 3, 5)


def broken(**changed: Any) -> ImageSet:
    good = image_set()
    return ImageSet(changed.get("images", good.images), changed.get("labels", good.labels), 2)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (broken(images=np.zeros((4, 5, 5, 3), np.float32)), "images must be uint8, are float32"),
        (broken(images=np.zeros((4, 5, 5), np.uint8)), r"must be square .* are \[4, 5, 5\]"),
        (broken(images=np.zeros((4, 5, 6, 3), np.uint8)), r"are \[4, 5, 6, 3\]"),
        (broken(images=np.zeros((4, 3, 5, 5), np.uint8)), r"are \[4, 3, 5, 5\]"),
        (broken(images=np.zeros((4, 5, 5, 1), np.uint8)), r"are \[4, 5, 5, 1\]"),
        (image_set(0), "has no images"),
        (broken(labels=np.zeros(4, np.int32)), r"labels must be int64 \[4\], are int32 \[4\]"),
        (broken(labels=np.zeros(3, np.int64)), r"int64 \[4\], are int64 \[3\]"),
        (broken(labels=np.zeros((4, 1), np.int64)), r"are int64 \[4, 1\]"),
        (image_set(labels=[0, 1, 2, 1]), r"labels must lie in 0\.\.1, span 0\.\.2"),
        (image_set(labels=[0, 1, -1, 1]), r"labels must lie in 0\.\.1, span -1\.\.1"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_odd_images_are_refused_by_name_and_split(split: str, part: ImageSet, message: str) -> None:
    with pytest.raises(UserError, match=f"^odd: {split} .*{message}"):
        data(**{split: part})


def test_one_class_is_no_task() -> None:
    with pytest.raises(UserError, match="odd: needs two classes or more, has 1"):
        data(names=1)


def test_splits_of_two_sizes_are_refused() -> None:
    with pytest.raises(UserError, match=r"differ in size \(5 and 6 pixels\)"):
        data(test=image_set(3, size=6))


def test_test_images_have_the_size_of_training_views() -> None:
    crop = ResizedCrop(4, flip=True)
    assert data(test=image_set(3, size=4), transform=crop).test.size == 4
    with pytest.raises(UserError, match=r"differ in size \(4 and 5 pixels\)"):
        data(transform=crop)
    with pytest.raises(UserError, match="crop of 6 pixels is larger than its 5 px"):
        data(test=image_set(3, size=6), transform=ResizedCrop(6, flip=True))


@pytest.mark.parametrize("size", range(3, 9))
@pytest.mark.parametrize("view", range(1, 4))
def test_the_central_crop_is_that_of_torchvision(size: int, view: int) -> None:
    x = torch.arange(size * size).reshape(1, size, size)
    part = centre(size, view)
    assert torch.equal(x[:, part, part], vision.center_crop(x, [view, view]))


def test_the_two_transforms_are_told_apart_in_keys() -> None:
    assert list(Transform(4, flip=True)) == [4, True]  # as in the keys of all results so far
    assert list(ResizedCrop(4, flip=True)) == [4, True, 0.08]


def test_a_known_digest_is_taken_as_it_is() -> None:
    known = dataclasses.replace(data(), digest="known")
    assert known.sha256 == "known"


def test_the_digest_tells_all_data_apart() -> None:
    pixels = image_set().images.copy()
    pixels[0, 0, 0, 0] = 1
    variants = [
        data(),
        data(train=image_set().replaced(pixels)),
        data(train=image_set(labels=[1, 1, 0, 1])),
        data(test=image_set(4)),
        dataclasses.replace(data(), class_names=("a", "c")),
    ]
    assert len({variant.sha256 for variant in variants}) == len(variants)
    assert data().sha256 == variants[0].sha256


def test_pixels_are_counted_once_however_many_channels_change() -> None:
    clean = np.full((2, 4, 4, 3), 100, np.uint8)
    poison = clean.copy()
    poison[1, 0, 0] = 0
    poison[1, 2, 3, 1] = 101
    assert Budget("l0", 2).excess(clean, poison) is None
    words = "l0 2 pixels at image 1, promised 1 pixel"
    assert Budget("l0", 1).excess(clean, poison) == words
    assert Budget("none").excess(clean, 255 - clean) is None


@pytest.mark.parametrize(
    ("norm", "radius", "words"),
    [
        ("l0", 1.5, "the radius is a whole number of pixels from 0"),
        ("l0", None, "a whole number of pixels"),
        ("l0", -1, "a whole number of pixels"),
        ("none", Radius("8/255"), "without a bound, no radius"),
        ("l1", 1.0, "unknown norm of a budget 'l1'"),
    ],
)
def test_a_budget_has_the_radius_of_its_norm(norm: Any, radius: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Budget(norm, radius)


def test_a_poison_is_made_from_noise_of_either_layout() -> None:
    random = np.random.default_rng(0)
    clean = ImageSet(random.integers(0, 256, (5, 6, 6, 3), dtype=np.uint8), np.zeros(5, int), 2)
    noise = random.uniform(-12, 12, clean.images.shape)
    radius, notes = Radius("8/255"), {"rounds": 3}
    expected = add_noise(clean.images, noise, radius)
    as_tensor = torch.tensor(noise).permute(0, 3, 1, 2)
    for either in (noise, as_tensor):
        poison = Poison.from_noise(clean, either, radius, notes)
        assert np.array_equal(poison.images, expected)
        assert (poison.budget, poison.notes) == (Budget("linf", radius), notes)
    with pytest.raises(UserError, match=r"is \[1, 6, 6, 3\]; an array must be \[5, 6, 6, 3\]"):
        Poison.from_noise(clean, noise[:1], radius)
    tensor = torch.zeros(*clean.images.shape).permute(0, 3, 1, 2)
    for kind in (tensor.bfloat16(), tensor.clone().requires_grad_()):
        assert (Poison.from_noise(clean, kind, radius).images == clean.images).all()
    with pytest.raises(UserError, match=r"a torch tensor must be \[\d+, 3, "):
        Poison.from_noise(clean, torch.zeros(*clean.images.shape), radius)
    with pytest.raises(UserError, match="the noise is list; an array must be"):
        Poison.from_noise(clean, [0, 1], radius)
    with pytest.raises(UserError, match=r"rho_u is '8/255'; write Radius"):
        Poison.from_noise(clean, noise, "8/255")  # type: ignore[arg-type]


def test_truncation_excuses_no_more_than_a_small_l2_radius() -> None:
    clean = np.full((1, 8, 8, 3), 100, np.uint8)
    poison = clean.copy()
    poison[0, 0, 0, 0] += 1
    assert Budget("l2", 0.5 / 255).excess(clean, poison) is None
    assert Budget("l2", 0.49 / 255).excess(clean, poison) is not None
