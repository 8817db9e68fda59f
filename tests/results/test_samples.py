"""What a run keeps of a poison for reports: its measured size, a strip, a sample of its noise."""

import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from skimage.metrics import structural_similarity

from unlearnable_bench import ImageSet, UserError, api
from unlearnable_bench.results import samples
from unlearnable_bench.results.samples import (
    measure_quality,
    read_noise,
    read_strip,
    write_samples,
)
from unlearnable_bench.results.store import ResultsFolder

NAMES = tuple("abcdefghij")


def images(count: int = 60, size: int = 8, classes: int = 10, seed: int = 0) -> ImageSet:
    random = np.random.default_rng(seed)
    pixels = random.integers(40, 200, (count, size, size, 3)).astype(np.uint8)
    return ImageSet(pixels, (np.arange(count) % classes).astype(np.int64), classes)


def noisy(clean: ImageSet, levels: int = 5) -> Any:
    noise = np.random.default_rng(1).integers(-levels, levels + 1, clean.images.shape)
    return (clean.images + noise).astype(np.uint8)


def written(folder: Path, clean: ImageSet, poisoned: Any, key: str = "a") -> None:
    write_samples(folder, key, clean, poisoned, NAMES)


def test_the_size_of_a_change_is_that_computed_by_hand() -> None:
    clean = np.full((3, 2, 2, 3), 100, np.uint8)
    poisoned = clean.copy()
    poisoned[0, 0, 0] = 104  # three values by 4
    poisoned[2, :, :, 1] = 97  # four values by -3
    quality = measure_quality(clean, poisoned)
    assert quality["linf"] == 4
    assert quality["l2"] == pytest.approx(math.sqrt(3 * 16) / 255)
    first, third = 3 * 16 / 12, 4 * 9 / 12  # mean squares
    decibels = [10 * math.log10(255**2 / square) for square in (first, third)]
    assert quality["psnr"] == pytest.approx(sum(decibels) / 2)
    assert quality["images"] == 3
    assert "ssim" not in quality  # two pixels hold no window


def test_the_largest_change_may_be_downwards_and_in_the_last_image() -> None:
    clean = np.full((2000, 8, 8, 3), 255, np.uint8)
    poisoned = clean.copy()
    poisoned[0] = 254
    poisoned[-1, 0, 0, 0] = 0
    quality = measure_quality(clean, poisoned)
    assert quality["linf"] == 255
    assert quality["l2"] == pytest.approx(1)
    assert quality["images"] == 1000


def test_similarity_is_the_mean_over_images() -> None:
    clean = images(count=5)
    poisoned = noisy(clean)
    found = measure_quality(clean.images, poisoned)["ssim"]
    each = [
        structural_similarity(a, b, channel_axis=2, data_range=255)
        for a, b in zip(clean.images, poisoned, strict=True)
    ]
    assert found == pytest.approx(np.mean(each))
    assert found < 1


@pytest.mark.parametrize("size", [3, 4, 6])
def test_the_window_of_similarity_fits_small_images(size: int) -> None:
    clean = images(count=4, size=size)
    assert 0 < measure_quality(clean.images, noisy(clean))["ssim"] < 1


def test_equal_images_have_no_signal_to_noise_ratio() -> None:
    clean = images(count=4).images
    expected = {"linf": 0.0, "l2": 0.0, "ssim": 1.0, "images": 4}
    assert measure_quality(clean, clean.copy()) == expected


def test_quality_can_be_written_as_json() -> None:
    clean = images()
    for poisoned in (clean.images, noisy(clean)):
        json.dumps(measure_quality(clean.images, poisoned), allow_nan=False)


def test_a_strip_reads_back_as_it_was_written(tmp_path: Path) -> None:
    clean = images()
    poisoned = noisy(clean)
    written(tmp_path, clean, poisoned)
    strip = read_strip(tmp_path, "a")
    assert strip is not None
    assert strip.clean.shape == (16, 8, 8, 3)
    np.testing.assert_array_equal(strip.clean, clean.images[strip.index])
    np.testing.assert_array_equal(strip.poisoned, poisoned[strip.index])
    np.testing.assert_array_equal(strip.labels, clean.labels[strip.index])
    assert strip.names == tuple(NAMES[label] for label in strip.labels)
    assert len({*strip.index.tolist()}) == 16
    assert -5 <= strip.noise.min() < 0 < strip.noise.max() <= 5


def test_a_strip_is_spread_over_the_classes(tmp_path: Path) -> None:
    clean = images()
    written(tmp_path, clean, noisy(clean))
    strip = read_strip(tmp_path, "a")
    assert strip is not None
    assert sorted(strip.labels[:10]) == list(range(10))
    assert len({*strip.labels[10:].tolist()}) == 6


def test_every_method_shows_the_same_images(tmp_path: Path) -> None:
    clean = images()
    for key, levels in (("a", 1), ("b", 8)):
        written(tmp_path, clean, noisy(clean, levels), key)
    one, other = (read_strip(tmp_path, key) for key in "ab")
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.index, other.index)
    assert not np.array_equal(one.poisoned, other.poisoned)


def test_the_choice_of_images_stays_the_same_in_later_versions() -> None:
    assert samples._order(10).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]


def test_small_sets_and_missing_classes_give_shorter_strips(tmp_path: Path) -> None:
    clean = ImageSet(images(count=3).images, np.array([7, 7, 2]), 10)
    written(tmp_path, clean, noisy(clean))
    strip, noise = read_strip(tmp_path, "a"), read_noise(tmp_path, "a")
    assert strip is not None
    assert noise is not None
    assert sorted(strip.labels) == [2, 7, 7]
    assert sorted(strip.labels[:2]) == [2, 7]
    assert noise.shape == (3, 8, 8, 3)


@pytest.mark.parametrize(("levels", "stored"), [(5, np.int8), (200, np.int16)])
def test_a_sample_of_noise_is_the_difference(tmp_path: Path, levels: int, stored: Any) -> None:
    clean = images(count=300, size=8)
    poisoned = noisy(clean) if levels == 5 else 255 - clean.images
    written(tmp_path, clean, poisoned)
    noise = read_noise(tmp_path, "a")
    assert noise is not None
    assert noise.dtype == np.int16
    file = load_file(tmp_path / "noise" / "a.safetensors")
    assert file["noise"].dtype == stored
    assert len(noise) == 256
    expected = poisoned.astype(int) - clean.images.astype(int)
    np.testing.assert_array_equal(noise, expected[file["index"]])


def test_of_large_images_the_strip_is_whole_and_the_noise_a_central_crop(tmp_path: Path) -> None:
    clean = images(count=20, size=224)
    poisoned = noisy(clean)
    written(tmp_path, clean, poisoned)
    strip, noise = read_strip(tmp_path, "a"), read_noise(tmp_path, "a")
    assert strip is not None
    assert noise is not None
    assert strip.clean.shape == (16, 224, 224, 3)
    index = load_file(tmp_path / "noise" / "a.safetensors")["index"]
    expected = poisoned.astype(int) - clean.images.astype(int)
    np.testing.assert_array_equal(noise, expected[index, 96:128, 96:128])


def test_samples_are_written_once(tmp_path: Path) -> None:
    clean = images()
    written(tmp_path, clean, noisy(clean, 1))
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    written(tmp_path, clean, noisy(clean, 9))
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before
    assert len(before) == 2


def test_samples_that_are_not_there_are_none(tmp_path: Path) -> None:
    assert read_strip(tmp_path, "a") is None
    assert read_noise(tmp_path, "a") is None


@pytest.mark.parametrize(("kind", "read"), [("strips", read_strip), ("noise", read_noise)])
def test_damaged_samples_are_named(tmp_path: Path, kind: str, read: Any) -> None:
    clean = images()
    written(tmp_path, clean, noisy(clean))
    path = tmp_path / kind / "a.safetensors"
    whole = path.read_bytes()
    for damaged in (b"", whole[:-5], whole[:20], b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.safetensors is damaged"):
            read(tmp_path, "a")
        assert path.read_bytes() == damaged


@pytest.mark.parametrize(("kind", "read"), [("strips", read_strip), ("noise", read_noise)])
def test_files_of_another_kind_among_the_samples_are_named(
    tmp_path: Path, kind: str, read: Any
) -> None:
    path = tmp_path / kind / "a.safetensors"
    path.parent.mkdir()
    about = {"about": json.dumps({"key": "a", "names": ["x"]})}
    flat = {name: np.zeros(1, np.uint8) for name in ("clean", "poisoned", "noise")}
    numbers = {name: np.zeros(1, np.int64) for name in ("labels", "index")}
    for metadata in (about, {}, {"about": "[]"}, {"about": json.dumps({"key": "b"})}):
        save_file(flat | numbers, path, metadata)
        with pytest.raises(UserError, match=r"a\.safetensors is damaged"):
            read(tmp_path, "a")


def test_reading_samples_needs_no_torch() -> None:
    code = "import sys, unlearnable_bench.results.samples as s; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


SETTINGS = {"shapes.train": "60", "shapes.test": "20", "training.epochs": "1", "sem.steps": "2"}


def run(out: Path, *methods: str) -> dict[str, Any]:
    """Run methods on few images; return their records by attack."""
    settings = {k: v for k, v in SETTINGS.items() if not k.startswith("sem") or "sem" in methods}
    plan = api.make_plan(methods=methods, settings=settings)
    assert not api.run(plan, out, device="cpu").failures
    return {record.attack: record for record in ResultsFolder(out).records()}


def test_a_run_keeps_strips_and_noise_of_every_poison_but_clean(tmp_path: Path) -> None:
    records = run(tmp_path / "out", "random", "sc")
    for attack in ("random", "sc"):
        key = records[attack].poison["key"]
        strip, noise = read_strip(tmp_path / "out", key), read_noise(tmp_path / "out", key)
        assert strip is not None
        assert noise is not None
        assert len(strip.clean) == 16
        assert np.abs(noise).max() <= records[attack].poison["quality"]["linf"]
    assert read_strip(tmp_path / "out", records["clean"].poison["key"]) is None
    assert {path.name for path in (tmp_path / "out").glob("*")} >= {"strips", "noise"}


def test_records_hold_the_measured_quality_and_the_number_of_classes(tmp_path: Path) -> None:
    records = run(tmp_path, "random")
    clean, random = records["clean"], records["random"]
    assert clean.poison["quality"] == {"linf": 0.0, "l2": 0.0, "ssim": 1.0, "images": 60}
    assert random.poison["quality"]["linf"] == 8
    assert random.poison["quality"]["images"] == 60
    assert 30 < random.poison["quality"]["psnr"] < 40
    assert (clean.classes, random.classes) == (10, 10)
    frame = api.load_records(tmp_path).set_index("attack")
    assert frame.loc["random", "linf"] == 8
    assert math.isnan(frame.loc["clean", "psnr"])


def test_a_poison_kept_by_an_older_version_is_measured_when_it_is_used(tmp_path: Path) -> None:
    first = tmp_path / "first"
    record = run(first, "sem")["sem[steps=2]"]
    found = ResultsFolder(first).poison(record.poison["key"])
    assert found is not None
    pixels, about = found
    quality = about.pop("quality")
    old = ResultsFolder(tmp_path / "old", create=True)
    old.write_poison(record.poison["key"], pixels, about)
    again = run(tmp_path / "old", "sem")["sem[steps=2]"]
    assert again.poison["quality"] == quality == record.poison["quality"]
    assert again.poison["seconds"] == record.poison["seconds"]
    assert read_strip(tmp_path / "old", record.poison["key"]) is not None


def test_samples_that_cannot_be_written_cost_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ResultsFolder(tmp_path / "out", create=True)
    (tmp_path / "out" / "strips").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        records = run(tmp_path / "out", "random")
    assert records.keys() == {"clean", "random"}
    (line,) = caplog.messages
    assert "the samples of random, seed 0 cannot be written" in line
    assert "\n" not in line
