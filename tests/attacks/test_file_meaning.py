"""An array is read as noise or as poisoned images by its values, and the plan says which."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from file_arrays import COUNT, IMAGES, NOISE, POISONED, SIZE, photographs
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from unlearnable_bench import Radius, UserError, make_plan
from unlearnable_bench.attacks.file import File
from unlearnable_bench.cli import app
from unlearnable_bench.images import ImageSet, Pixels


def saved(path: Path, array: np.ndarray, **options: Any) -> File:
    np.save(path / "array.npy", array)
    return File(path=str(path / "array.npy"), **options)


def generated(attack: File, images: ImageSet = IMAGES) -> Pixels:
    settled = attack.resolved(images)
    settled.check(images)
    harness: Any = None  # not used
    return settled.generate(images, harness).images


IMAGES_AS = {
    "0 to 1": POISONED / 255,
    "0 to 1, float32": (POISONED / 255).astype(np.float32),
    "0 to 1, float16": (POISONED / 255).astype(np.float16),
    "0 to 255": POISONED.astype(np.float32),
    "-1 to 1": (POISONED / 127.5 - 1).astype(np.float32),
    "int16": POISONED.astype(np.int16),
    "int64": POISONED.astype(np.int64),
    "int8": (POISONED.astype(int) - 128).astype(np.int8),
    "never clipped": (IMAGES.images + NOISE) / 255,
    "channels first": (POISONED / 255).transpose(0, 3, 1, 2),
}


@pytest.mark.parametrize("form", IMAGES_AS)
@pytest.mark.parametrize("radius", ["8/255", "64/255", "255/255"])
def test_poisoned_images_are_images_whatever_the_radius(
    tmp_path: Path, form: str, radius: str
) -> None:
    attack = saved(tmp_path, IMAGES_AS[form], rho_u=Radius(radius))
    np.testing.assert_array_equal(generated(attack), POISONED)
    assert "is read as poisoned images in " in attack.check(IMAGES)


def single_pixels(value: float) -> np.ndarray:
    noise = np.zeros(IMAGES.images.shape)
    noise[np.arange(COUNT), np.arange(COUNT) % SIZE, 3] = value
    return noise


NOISE_AS = {
    "8-bit levels": (NOISE.astype(np.int8), NOISE),
    "units of the pixel range": ((NOISE / 255).astype(np.float32), NOISE),
    "whole floats": (NOISE.astype(np.float32), NOISE),
    "positive": (np.abs(NOISE) / 255, np.abs(NOISE)),
    "one pixel, up": (single_pixels(1.0), single_pixels(255)),
    "one pixel, down": (single_pixels(-200).astype(np.int16), single_pixels(-200)),
    "strong": (20 * NOISE, 20 * NOISE),
    "strong floats": (8 * NOISE / 255, 8 * NOISE),
}


@pytest.mark.parametrize("form", NOISE_AS)
def test_noise_is_noise(tmp_path: Path, form: str) -> None:
    array, levels = NOISE_AS[form]
    attack = saved(tmp_path, array, rho_u=Radius("255/255"))
    expected = np.clip(IMAGES.images + levels, 0, 255)
    np.testing.assert_array_equal(generated(attack), expected)
    assert "is read as noise in " in attack.check(IMAGES)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 4, 8, 16, 32]),
    st.floats(0.3, 1),
    st.sampled_from([np.float64, np.float32]),
)
def test_any_noise_and_its_images_are_told_apart(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    radius: int,
    brightness: float,
    kind: type[np.floating[Any]],
) -> None:
    folder = tmp_path_factory.mktemp("meaning")
    images = photographs(brightness)
    noise = np.random.default_rng(seed).integers(-radius, radius + 1, images.images.shape)
    expected = np.clip(images.images + noise, 0, 255)
    for array in (noise / 255, expected / 255):
        attack = saved(folder, array.astype(kind), rho_u=Radius("255/255"))
        np.testing.assert_array_equal(generated(attack, images), expected)


def normalised() -> np.ndarray:
    return (POISONED / 255 - [0.4914, 0.4822, 0.4465]) / [0.247, 0.2435, 0.2616]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (normalised(), "neither noise .* nor images near the clean ones; undo their normalisation"),
        (normalised().astype(np.float32), "undo their normalisation"),
        (7.83 * NOISE / 8 + 0.1, "neither noise in units of the pixel range"),
        (NOISE.astype(np.uint8), "closer to another clean image .*if it is noise: save it as int8"),
        (NOISE.astype(np.uint16), "holds uint16; allowed: uint8"),
    ],
    ids=["normalised", "normalised float32", "levels", "wrapped", "uint16"],
)
def test_values_of_no_known_meaning_are_refused(
    tmp_path: Path, array: np.ndarray, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        generated(saved(tmp_path, array, rho_u=Radius("255/255")))


def test_the_user_may_say_what_an_array_is(tmp_path: Path) -> None:
    every = Radius("255/255")
    floats = (POISONED / 255).astype(np.float32)
    as_noise = generated(saved(tmp_path, floats, rho_u=every, content="noise"))
    expected = np.clip(IMAGES.images.astype(int) + POISONED, 0, 255)
    np.testing.assert_array_equal(as_noise, expected)
    as_images = generated(saved(tmp_path, floats, content="images"))
    np.testing.assert_array_equal(as_images, POISONED)
    with pytest.raises(UserError, match=r"uint8 from .*, which has no sign; .* 128 for 0"):
        generated(saved(tmp_path, POISONED, content="noise"))
    with pytest.raises(UserError, match="closer to another clean image"):
        generated(saved(tmp_path, NOISE / 255, rho_u=every, content="images"))


def write_data(path: Path) -> str:
    x, y = IMAGES.images, IMAGES.labels
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y, class_names=np.array([*"abcd"]))
    return f"npz:{path}"


def test_only_what_was_misread_has_another_key(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.npz")

    def options(array: np.ndarray) -> dict[str, Any]:
        np.save(tmp_path / "array.npy", array)
        plan = make_plan(methods=[f"file:{tmp_path / 'array.npy'}"], dataset=data, clean=False)
        identity: dict[str, Any] = plan.cells[0].poison.identity["attack"]["options"]
        return identity

    usual = {"path", "rho_u"}
    assert {*options(NOISE / 255)} == {*options(NOISE.astype(np.int8))} == usual
    assert {*options(POISONED)} == usual
    assert options(POISONED / 255)["content"] == "images"


def test_the_printed_plan_says_how_an_array_is_read(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.npz")
    np.save(tmp_path / "first.npy", (POISONED / 255).astype(np.float32).transpose(0, 3, 1, 2))
    np.save(tmp_path / "second.npy", NOISE.astype(np.int8))
    names = ",".join(f"file:{tmp_path}/{name}.npy" for name in ("first", "second"))
    command = ["run", "--dataset", data, "--methods", names, "--preset", "smoke", "--dry-run"]
    result = CliRunner().invoke(app, [*command, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert (
        f"{tmp_path}/first.npy is read as poisoned images in values 0 to 1 (float32 "
        "[N, 3, H, W]); order checked: each is nearest to its own clean image" in lines
    )
    assert (
        f"{tmp_path}/second.npy is read as noise in 8-bit levels (int8 [N, H, W, 3]); order not "
        "checked" in lines
    )
