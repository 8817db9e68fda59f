"""Noise and poisons made elsewhere are taken as they are, or refused in one line."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import make_harness, random_images
from safetensors.numpy import save_file

from unlearnable_bench import Poison, Radius, UserError
from unlearnable_bench.attacks.file import File
from unlearnable_bench.images import Pixels

IMAGES = random_images()
NOISE = np.random.default_rng(1).integers(-8, 9, IMAGES.images.shape)
POISONED: Pixels = np.clip(IMAGES.images.astype(int) + NOISE, 0, 255).astype(np.uint8)


def taken(path: Path, **options: Radius) -> Poison:
    attack = File(path=str(path), **options)  # type: ignore[arg-type]
    attack.check(IMAGES)
    return attack.generate(IMAGES, make_harness())


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(
    "array",
    [POISONED, NOISE.astype(np.int8), (NOISE / 255).astype(np.float32), NOISE / 255],
    ids=["uint8", "int8", "float32", "float64"],
)
@pytest.mark.parametrize("ending", ["npy", "npz", "safetensors"])
def test_every_form_gives_the_same_poison(
    tmp_path: Path, array: np.ndarray, layout: str, ending: str
) -> None:
    array = np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if layout == "NCHW" else array
    path = tmp_path / f"noise.{ending}"
    if ending == "npy":
        np.save(path, array)
    elif ending == "npz":
        np.savez(path, noise=array)
    else:
        save_file({"noise": array}, path)
    poison = taken(path)
    np.testing.assert_array_equal(poison.images, POISONED)
    assert poison.budget.excess(IMAGES.images, poison.images) is None


def test_the_file_is_part_of_the_key(tmp_path: Path) -> None:
    path = tmp_path / "noise.npy"
    np.save(path, NOISE)
    before = File(path=str(path)).fingerprint()
    np.save(path, -NOISE)
    assert File(path=str(path)).fingerprint() != before
    with pytest.raises(UserError, match="no such file"):
        File(path=str(tmp_path / "none.npy")).fingerprint()
    with pytest.raises(UserError, match=r"none\.npy: no such file; write --methods file:PATH"):
        File(path=str(tmp_path / "none.npy")).check(IMAGES)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (NOISE[:-1], r"has 24 rows, the data has 25 images in 3 classes; if .* index=index"),
        (NOISE[:, :4], r"holds rows of \[4, 8, 3\], the images are \[8, 8, 3\]; make the noise at"),
        (NOISE[..., 0], r"holds \[25, 8, 8\]; allowed: \[N, H, W, 3\]"),
        (NOISE > 0, "holds bool"),
        (NOISE.astype(np.complex64), "holds complex64"),
        (np.where(NOISE == 8, np.nan, NOISE / 255), "not finite at row 0"),
        (np.array([{}], dtype=object), "not a readable array file"),
    ],
    ids=["length", "shape", "grey", "bool", "complex", "nan", "pickle"],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    path = tmp_path / "noise.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(UserError, match=words):
        File(path=str(path)).check(IMAGES)


def test_noise_beyond_its_radius_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", NOISE)
    with pytest.raises(UserError, match=r"reaches 8/255, beyond file\.rho_u=4/255"):
        File(path=str(tmp_path / "noise.npy"), rho_u=Radius("4/255")).check(IMAGES)
    np.save(tmp_path / "poison.npy", POISONED)
    with pytest.raises(UserError, match=r"beyond file\.rho_u=4/255: linf 8/255 at image "):
        File(path=str(tmp_path / "poison.npy"), rho_u=Radius("4/255")).check(IMAGES)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64])
def test_the_lowest_number_of_a_type_is_beyond_any_radius(tmp_path: Path, kind: type) -> None:
    lowest = np.iinfo(kind).min
    np.save(tmp_path / "noise.npy", np.full(IMAGES.images.shape, lowest, kind))
    with pytest.raises(UserError, match=re.escape(f"reaches {-float(lowest):g}/255")):
        taken(tmp_path / "noise.npy")


def test_two_arrays_or_none_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=NOISE, b=NOISE)
    with pytest.raises(UserError, match="holds a, b"):
        File(path=str(tmp_path / "two.npz")).check(IMAGES)
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="not a readable array file"):
        File(path=str(tmp_path / "torn.safetensors")).check(IMAGES)
