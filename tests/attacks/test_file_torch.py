"""Files of torch.save: their tensors are read, and nothing that they name is called."""

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_harness, random_images

from unlearnable_bench import ImageSet, UserError
from unlearnable_bench.attacks.ar import AR
from unlearnable_bench.attacks.file import File

IMAGES = random_images()
NOISE = np.random.default_rng(1).integers(-8, 9, IMAGES.images.shape).transpose(0, 3, 1, 2)
TENSOR = torch.tensor(NOISE / 255, requires_grad=True)
EXPECTED = np.clip(IMAGES.images + NOISE.transpose(0, 2, 3, 1), 0, 255)


@pytest.mark.parametrize(
    "saved",
    [
        TENSOR,
        [TENSOR],
        list(TENSOR),
        {"noise": TENSOR.float()},
        {"noise": TENSOR.detach(), "labels": torch.tensor(IMAGES.labels)},
        TENSOR.detach().float().bfloat16(),
    ],
    ids=["tensor", "list of one", "list of images", "dict", "with labels", "bfloat16"],
)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_tensors_give_their_poison(tmp_path: Path, saved: Any, new: bool) -> None:
    path = tmp_path / "noise.pt"
    torch.save(saved, path, _use_new_zipfile_serialization=new)
    attack = File(path=str(path))
    line = attack.check(IMAGES)
    poison = attack.generate(IMAGES, make_harness())
    np.testing.assert_array_equal(poison.images, EXPECTED)
    assert ("labels agree" in line) == (isinstance(saved, dict) and "labels" in saved)


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Fraction(1, 2)))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: torch.save({"a": Fraction(1, 2)}, p), "holds fractions.Fraction, and only"),
        (lambda p: torch.save(np.zeros(3), p), r"holds numpy\S*_reconstruct, and only tensors"),
        (lambda p: torch.save({"a": TENSOR, "epoch": 3}, p), "holds int, not only tensors"),
        (lambda p: torch.save([1, 2], p), "holds list, not only tensors"),
        (lambda p: torch.save([TENSOR, TENSOR[1:]], p), "holds tensors of unequal shapes"),
        (lambda p: torch.save([], p), "holds an empty list"),
        (write_pickle, "is a Python pickle, which can run any code and is never read"),
        (lambda p: p.write_bytes(b"not weights"), r"is not a readable array file .*, \.pt$"),
    ],
    ids=["class", "numpy", "number", "list", "shapes", "empty", "pickle", "text"],
)
def test_anything_else_is_refused_in_one_line(
    tmp_path: Path, write: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "noise.pt"
    write(path)
    with pytest.raises(UserError, match=words) as error:
        File(path=str(path)).check(IMAGES)
    assert "\n" not in str(error.value)


class Touching:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_nothing_that_the_file_names_is_called(tmp_path: Path, new: bool) -> None:
    path = tmp_path / "noise.pt"
    torch.save([Touching(tmp_path / "touched")], path, _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match="only tensors are read"):
        File(path=str(path)).check(IMAGES)
    assert not (tmp_path / "touched").exists()


def windows(*weights: list[float]) -> torch.Tensor:
    """Return a window [3, 3, 3] with the same weights in each channel, by process."""
    return torch.tensor([[[*w, 0.0]] * 3 for w in weights]).reshape(-1, 3, 3, 3)


LEFT = [0, 0, 0, 0, 0, 0, 0, 1.0]  # each value is that to the left: rows of one value
ABOVE = [0, 0, 0, 0, 0, 1.0, 0, 0]  # each value is that above it: columns of one value
GREY = ImageSet(np.full((6, 8, 8, 3), 128, np.uint8), np.arange(6) % 2, 2)


@pytest.mark.parametrize("form", [list, lambda w: w, lambda w: {"processes": w}])
def test_the_authors_coefficients_make_the_patterns(
    tmp_path: Path, form: Callable[[torch.Tensor], Any]
) -> None:
    path = tmp_path / "processes.pt"
    torch.save(form(windows(LEFT, ABOVE, ABOVE)), path)
    attack = AR(coefficients=str(path))
    attack.check(GREY)
    first, other = (attack.generate(GREY, make_harness(seed=k)).images for k in (0, 1))
    assert (first != other).any()
    for image, label in zip(first, GREY.labels, strict=True):
        own = image if label == 0 else image.transpose(1, 0, 2)
        assert (own == own[:, :1]).all()
        assert (own != own[:1]).any()


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (windows(LEFT), r"holds 1 processes, the data has 2 classes"),
        (torch.zeros(2, 3, 8), r"holds \[2, 3, 8\]; give one array \[P, 3, 3, 3\]"),
        (torch.ones(2, 3, 3, 3), "windows whose last entry is not 0"),
        (windows(LEFT, [0, 0, 0, 0, 0, 0, 0, 1e9]), "process 1 diverges on 8 px"),
        (windows(LEFT, [float("nan")] * 8), "process 1 diverges on 8 px"),
        (windows(LEFT, [0.0] * 8), "the pattern of process 1 is black"),
        ({"a": windows(LEFT), "b": windows(LEFT)}, r"holds \[1, 3, 3, 3\], \[1, 3, 3, 3\]"),
        ([Fraction(1, 2)], "holds fractions.Fraction"),
    ],
    ids=["few", "shape", "last entry", "diverges", "nan", "black", "two", "class"],
)
def test_unusable_coefficients_are_refused(tmp_path: Path, saved: Any, words: str) -> None:
    path = tmp_path / "processes.pt"
    torch.save(saved, path)
    with pytest.raises(UserError, match=words):
        AR(coefficients=str(path)).check(GREY)


def test_the_file_of_coefficients_is_part_of_the_key(tmp_path: Path) -> None:
    path = tmp_path / "processes.pt"
    torch.save(windows(LEFT, ABOVE), path)
    attack = AR(coefficients=str(path))
    before = attack.fingerprint()
    torch.save(windows(ABOVE, LEFT), path)
    assert attack.fingerprint() != before
    assert AR().fingerprint() is None
    path.unlink()
    with pytest.raises(UserError, match=r"processes\.pt: no such file; give the path"):
        attack.fingerprint()
