"""Uniform noise: one draw for each stored value, rounded and clipped."""

from pathlib import Path

import numpy as np
import pytest
from helpers import make_harness, random_images

from unlearnable_bench import ImageSet, Radius, UserError
from unlearnable_bench.defenses import uniform_noise
from unlearnable_bench.defenses.uniform_noise import UniformNoise
from unlearnable_bench.harness.checkpoint import Checkpoint


def grey(count: int = 200, value: int = 128) -> ImageSet:
    pixels = np.full((count, 16, 16, 3), value, np.uint8)
    return ImageSet(pixels, np.zeros(count, np.int64), 2)


def changes(defense: UniformNoise, value: int = 128) -> np.ndarray:
    images = grey(value=value)
    return defense.prepare(images, make_harness()).images.astype(int) - images.images


@pytest.mark.parametrize(("radius", "levels"), [("4/255", 4), ("8/255", 8), ("1/255", 1)])
def test_each_level_is_as_frequent_as_rounding_makes_it(radius: str, levels: int) -> None:
    """The outermost levels take half an interval: u rounds to k within half a level of it."""
    found = changes(UniformNoise(radius=Radius(radius)))
    shares = [(found == level).mean() for level in range(-levels, levels + 1)]
    expected = np.full(2 * levels + 1, 1 / (2 * levels))
    expected[[0, -1]] /= 2
    assert sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(shares, expected, atol=0.006)


def test_values_and_images_are_drawn_independently() -> None:
    found = changes(UniformNoise()).astype(float)
    flat = found.reshape(len(found), -1)
    assert abs(np.corrcoef(flat[:, 0::3].ravel(), flat[:, 1::3].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(flat[:-1].ravel(), flat[1:].ravel())[0, 1]) < 0.02


def test_black_and_white_are_clipped() -> None:
    assert changes(UniformNoise(), value=0).min() == 0
    assert changes(UniformNoise(), value=0).max() == 4
    assert changes(UniformNoise(), value=255).min() == -4
    assert changes(UniformNoise(), value=255).max() == 0


def test_a_radius_of_zero_changes_nothing() -> None:
    assert not changes(UniformNoise(radius=Radius("0"))).any()


def test_the_seed_decides_the_noise_and_nothing_else_changes() -> None:
    images = random_images()
    before = images.digest()
    prepared = UniformNoise().prepare(images, make_harness())
    assert images.digest() == before
    assert prepared.images.dtype == np.uint8
    assert np.array_equal(prepared.labels, images.labels)
    assert prepared.classes == images.classes
    assert UniformNoise().prepare(images, make_harness()).digest() == prepared.digest()
    assert UniformNoise().prepare(images, make_harness(seed=1)).digest() != prepared.digest()


def test_it_is_the_same_in_a_resumed_run(tmp_path: Path) -> None:
    images, digests = random_images(), []
    for _ in range(2):
        harness = make_harness()
        harness.checkpoint = Checkpoint(tmp_path / "state.safetensors", interval=0)
        digests.append(UniformNoise().prepare(images, harness).digest())
        harness.keep()
        for _ in harness.loop("training", 1):
            pass
    assert digests[0] == digests[1]


def test_large_sets_are_drawn_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    images = grey(count=10)
    monkeypatch.setattr(uniform_noise, "_CHUNK", 3 * images.images[0].size)
    found = UniformNoise().prepare(images, make_harness()).images.astype(int) - 128
    assert np.abs(found).max() == 4
    assert len(np.unique(found.reshape(10, -1), axis=0)) == 10


def test_a_radius_is_an_option() -> None:
    defense = UniformNoise.configured({"radius": "2/255"}, owner="uniform-noise")
    assert defense.radius == Radius("2/255")
    with pytest.raises(UserError, match=r"uniform-noise\.radius takes radius"):
        UniformNoise.configured({"radius": "0.02"}, owner="uniform-noise")
