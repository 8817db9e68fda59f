"""Classes are chosen by name where that is clear, and by label where it is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnable_bench import UserError, make_plan
from unlearnable_bench.datasets.npz import read_npz
from unlearnable_bench.images import Data, ImageSet, Transform
from unlearnable_bench.planning.class_names import class_text, labels_of


def named(*names: str) -> Data:
    count = len(names)
    images = ImageSet(np.zeros((count, 4, 4, 3), np.uint8), np.arange(count), count)
    return Data("set", images, images, names, Transform(0, flip=False))


@pytest.mark.parametrize(
    ("classes", "asked", "labels"),
    [
        (("cat", "dog", "owl"), ["owl", "cat", "owl"], (0, 2)),
        (("tench, Tinca tinca", "goldfish"), ["tench", "Tinca tinca"], (0,)),
        (("a,b , c", "d"), ["d", "a", "b", "c"], (0, 1)),
        ((" cat", "dog\n"), ["cat", "dog"], (0, 1)),
        (("crane", "maillot", "crane"), ["#2"], (2,)),
        (("", "dog"), ["#0"], (0,)),
        (("#1", "dog"), ["#1"], (0,)),
        (("cat", " cat"), ["cat"], (0,)),
    ],
)
def test_names_and_labels_choose_classes(
    classes: tuple[str, ...], asked: list[str], labels: tuple[int, ...]
) -> None:
    assert labels_of(named(*classes), asked) == labels


@pytest.mark.parametrize(
    ("classes", "asked", "words"),
    [
        (
            ("crane", "maillot", "crane"),
            "crane",
            "2 classes with the name 'crane', labels 0 and 2; choose by label: .*'#0'",
        ),
        (("a", "drill", "b", "drill", "drill"), "drill", "3 classes .* labels 1 and 3 and 4"),
        ((" bat", "bat ", "cap"), "bat", "2 classes with the name 'bat', labels 0 and 1"),
        (("cat", "dog"), "#2", "unknown class of set '#2'"),
        (("cat", "dog"), "#", "unknown class"),
        (("cat", "dog"), "#-1", "unknown class"),
        (("cat", "dog"), "#²", "unknown class"),
        (("cat", ""), "", "unknown class of set ''"),
    ],
)
def test_a_name_that_is_not_clear_is_refused(
    classes: tuple[str, ...], asked: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        labels_of(named(*classes), [asked])


@given(st.lists(st.text("ab ,#01", max_size=5), min_size=2, max_size=6))
def test_the_text_of_a_class_names_this_class(names: list[str]) -> None:
    data = named(*names)
    for label in range(len(names)):
        parts = [part.strip() for part in class_text(data, label).split(",")]
        assert labels_of(data, parts) == (label,)


def write(path: Path, names: Any) -> str:
    labels = np.arange(12) % 3
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels, class_names=names)
    return f"npz:{path}"


def test_two_classes_of_one_name_are_protected_apart(tmp_path: Path) -> None:
    data = write(tmp_path / "birds.npz", np.array(["crane", "maillot", "crane"]))

    def plan(*classes: str) -> Any:
        return make_plan(methods=["random"], dataset=data, protect_classes=classes)

    with pytest.raises(UserError, match="2 classes with the name 'crane'"):
        plan("crane")
    first, last, both = plan("#0"), plan("#2"), plan("#0", "#2")
    assert both.preset_label == "smoke[protect_classes=#0,#2]"
    assert [p.cells[-1].protection.classes for p in (first, last, both)] == [(0,), (2,), (0, 2)]
    assert len({p.cells[-1].key for p in (first, last, both)}) == 3


@pytest.mark.parametrize("names", [["cat", "dog", "çat"], ["a", "bb", "ccc"], ["1", "2", "3"]])
def test_bytes_are_names_too(tmp_path: Path, names: list[str]) -> None:
    text, raw = np.array(names), np.array([name.encode() for name in names])
    write(tmp_path / "text.npz", text)
    write(tmp_path / "raw.npz", raw)
    first, second = (read_npz(tmp_path / f"{name}.npz", "x") for name in ("text", "raw"))
    assert second.class_names == tuple(names)
    assert second.sha256 == first.sha256


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw.npz", np.array([b"\xff", b"a", b"b"]))
    with pytest.raises(UserError, match="class_names are bytes that are not UTF-8"):
        read_npz(tmp_path / "raw.npz", "x")
