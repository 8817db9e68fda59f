"""The files of MedMNIST are data sets as they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlearnable_bench import UserError
from unlearnable_bench.datasets.npz import Npz

RANDOM = np.random.default_rng(0)
LABELS = {part: np.arange(n)[:, None] % 3 for part, n in (("train", 12), ("val", 4), ("test", 6))}


def medmnist(shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the arrays of a file: uint8 images, and labels [N, 1]."""
    arrays: dict[str, Any] = {f"{part}_labels": y.astype(np.uint8) for part, y in LABELS.items()}
    for part, y in LABELS.items():
        arrays[f"{part}_images"] = RANDOM.integers(0, 256, (len(y), *shape), dtype=np.uint8)
    return arrays


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (64, 64)])
def test_a_file_is_read_as_it_is(
    tmp_path: Path, shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = medmnist(shape)
    np.savez_compressed(tmp_path / "bloodmnist.npz", **arrays)
    data = Npz(path=str(tmp_path / "bloodmnist.npz")).load()
    assert (data.name, data.class_names) == ("npz:bloodmnist", ("0", "1", "2"))
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == (
        [0, 1, 2] * 4,
        [0, 1, 2] * 2,
    )
    for part in ("train", "test"):
        images = arrays[f"{part}_images"]
        for channel in range(3):
            own = images[..., channel] if images.ndim == 4 else images
            np.testing.assert_array_equal(getattr(data, part).images[..., channel], own)
    assert capsys.readouterr().err == "npz:bloodmnist: left out 4 validation images\n"


def test_names_next_to_the_arrays_are_used(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", class_names=np.array([*"abc"]), **medmnist((28, 28)))
    assert Npz(path=str(tmp_path / "m.npz")).load().class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (medmnist((9, 9, 9)), r"train_images are \[12, 9, 9, 9\]; allowed: \[N, H, W\] or"),
        ({"train_labels": np.zeros((12, 14), np.uint8)}, "14 labels per image; .* but ChestMNIST"),
        ({"test_images": medmnist((28,))["test_images"]}, r"test_images are \[6, 28\]; allowed"),
        ({"test_labels": np.zeros((6, 1), np.float32)}, "must be integers, is float32"),
    ],
    ids=["3D", "several labels", "no image", "floats"],
)
def test_other_forms_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "m.npz", **(medmnist((28, 28)) | changes))
    with pytest.raises(UserError, match=words):
        Npz(path=str(tmp_path / "m.npz")).load()
