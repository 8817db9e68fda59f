"""Data in other people's forms are read where that is clear, or refused with the next step."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import arrays
from PIL import Image

from unlearnable_bench import UserError, make_plan
from unlearnable_bench.datasets import tiny_imagenet
from unlearnable_bench.datasets.folder import Folder
from unlearnable_bench.datasets.npz import read_npz
from unlearnable_bench.datasets.tiny_imagenet import TinyImageNet
from unlearnable_bench.planning import plan_file

X, Y = arrays()["x_train"], arrays()["y_train"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"x_train": X[..., 0]},
            r"is \[120, 16, 16\]; .*np\.repeat\(x\[\.\.\., None\], 3, axis=3\)",
        ),
        ({"x_test": X[..., :1]}, r"x_test .*is \[120, 16, 16, 1\]; .*np\.repeat\(x, 3, axis=3\)"),
        ({"x_train": X.transpose(0, 3, 1, 2)}, r"save x\.transpose\(0, 2, 3, 1\)"),
        ({"x_train": np.concatenate([X, X[..., :1]], 3)}, r"save x\[\.\.\., :3\]"),
        ({"x_train": X / 255}, r"uint8, is float64 from 0 to 1; save np\.rint\(255 \* x\)"),
        ({"x_train": X.astype(np.float32)}, r"float32 from .*; save np\.rint\(x\)\.astype"),
        ({"x_train": X.astype(np.int64)}, r"int64 from .*; save np\.rint\(x\)\.astype"),
        ({"x_train": X / 127.5 - 1}, r"float64 from -1 to 1; scale it to 0\.\.255, and round"),
        ({"y_train": Y[:, None]}, r"integers \[120\], is \[120, 1\]; save y\.reshape\(-1\)"),
        ({"y_test": np.eye(4)[Y]}, r"y_test .*is \[120, 4\]; .*save y\.argmax\(1\)"),
        ({"y_train": Y.astype(np.float32)}, r"is float32; save y\.astype\(int\)"),
        ({"y_train": np.array(["cat"] * 120)}, "must be integers, is <U3$"),
    ],
)
def test_an_array_of_another_form_is_refused_with_the_expression_that_mends_it(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    np.savez(tmp_path / "odd.npz", **(arrays() | changes))
    with pytest.raises(UserError, match=words):
        read_npz(tmp_path / "odd.npz", "odd")


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, X)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (one_array, r"lacks x_train, .*this file holds one array \[120, 16, 16, 3\]"),
        (lambda p: np.savez(p, train_images=X, train_labels=Y), "holds train_images, train_labels"),
        (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
        (lambda p: p.write_text("<html>"), "is an HTML page"),
        (lambda p: p.write_bytes(pickle.dumps(b"a")), "is a Python pickle"),
        (Path.mkdir, "is a folder; write folder:.*odd.npz"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, write: Callable[[Path], object], words: str
) -> None:
    write(tmp_path / "odd.npz")
    with pytest.raises(UserError, match=words):
        read_npz(tmp_path / "odd.npz", "odd")


@pytest.mark.parametrize(
    ("have", "lacks"),
    [("val", "test"), ("validation", "test"), ("Test", "test"), ("training", "train")],
)
def test_a_part_under_another_name_is_found(tmp_path: Path, have: str, lacks: str) -> None:
    root = tmp_path / "my pictures"
    for part in {"train", "test", have} - {lacks}:
        (root / part / "cat").mkdir(parents=True)
    words = f"no folder .*/{lacks} but {have}/; rename it: mv '.*/{have}' '.*/{lacks}'"
    with pytest.raises(UserError, match=words):
        Folder(path=str(root)).load()


@pytest.mark.parametrize("inner", ["", "images"])
@pytest.mark.parametrize("annotated", [False, True])
def test_a_tiny_imagenet_with_moved_validation_images_is_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str, annotated: bool
) -> None:
    monkeypatch.setenv("UBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tiny_imagenet, "_COUNTS", (4, 12, 2))

    def save(path: Path, level: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (level, 0, 0)).save(path, "PNG")

    root = tmp_path / "tiny"
    for k in range(4):
        save(root / "train" / f"n{k % 2}" / "images" / f"{k}.png", k)
    names = [f"n{k * k % 3 % 2}" for k in range(12)]
    for k in range(12):
        save(root / "val" / "images" / f"val_{k}.png", 20 * k)
    lines = "".join(f"val_{k}.png\t{name}\t0\t0\t9\t9\n" for k, name in enumerate(names))
    (root / "val" / "val_annotations.txt").write_text(lines)
    published = TinyImageNet(path=str(root)).load()
    for k, name in enumerate(names):
        (root / "val" / name / inner).mkdir(parents=True, exist_ok=True)
        picture = root / "val" / "images" / f"val_{k}.png"
        picture.rename(root / "val" / name / inner / picture.name)
    (root / "val" / "images").rmdir()
    if not annotated:
        (root / "val" / "val_annotations.txt").unlink()
    moved = TinyImageNet(path=str(root)).load()
    assert moved.sha256 == published.sha256
    assert moved.test.labels.tolist() == [int(name[1]) for name in names]


def test_a_tilde_after_a_colon_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "x.npz", **arrays())
    np.save(tmp_path / "noise.npy", np.ones(X.shape, np.int8))
    plan = make_plan(methods=["ours=file:~/noise.npy"], dataset="npz:~/x.npz")
    assert plan.data.name == "npz:x"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "~").mkdir()
    np.save(tmp_path / "here" / "~" / "noise.npy", -np.ones(X.shape, np.int8))
    other = make_plan(methods=["ours=file:~/noise.npy"], dataset="npz:~/x.npz")
    assert other.cells[1].key != plan.cells[1].key


def test_a_path_with_commas_is_one_method_if_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run 1, final").mkdir()
    for name in ("run 1, final/a,b.npy", "c.npy"):
        (tmp_path / name).touch()

    def methods(text: str) -> list[str]:
        found: list[str] = plan_file.arguments({"methods": text}, "--")["methods"]
        return found

    path = "run 1, final/a,b.npy"
    assert methods(f"sem,file:{path},rem") == ["sem", f"file:{path}", "rem"]
    assert methods(f"ours=file:{path}, file:c.npy") == [f"ours=file:{path}", "file:c.npy"]
    assert methods("file:none.npy,sem") == ["file:none.npy", "sem"]
    assert methods(f"file:{path}x") == ["file:run 1", "final/a", "b.npyx"]


@pytest.mark.parametrize("kind", ["folder", "tiny-imagenet", "imagenet-subset"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("data.zip", "is a file, not a folder; if it is an archive, unpack it"),
        ("data.npz", "is a file, not a folder; write npz:.*data.npz"),
    ],
)
def test_a_file_in_place_of_a_folder_is_told_so(
    tmp_path: Path, kind: str, name: str, words: str
) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=words):
        make_plan(methods=["random"], dataset=f"{kind}:{tmp_path / name}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><title>Sign in</title>", "is an HTML page"),
        (b"", "is empty; copy or download it again"),
        (b"\x89PNG\r\n\x1a\n", "is not a readable image; repair or remove it"),
    ],
)
def test_an_image_file_that_is_none_is_named_for_what_it_is(
    tmp_path: Path, content: bytes, words: str
) -> None:
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / label / "0.png")
    (tmp_path / "train" / "b" / "1.png").write_bytes(content)
    with pytest.raises(UserError, match=rf"train/b/1\.png {words}"):
        Folder(path=str(tmp_path)).load()
