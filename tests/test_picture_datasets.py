"""Data sets of many image files: what they read, how it is kept, and what they refuse."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_harness
from PIL import Image
from torchvision.transforms import functional as vision
from typer.testing import CliRunner

from unlearnable_bench import Data, UserError, load_records
from unlearnable_bench.cli import app
from unlearnable_bench.datasets import pictures, tiny_imagenet
from unlearnable_bench.datasets.imagenet_subset import ImageNetSubset
from unlearnable_bench.datasets.tiny_imagenet import TinyImageNet

WNIDS = ("n01", "n02", "n03")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a Tiny-ImageNet of 12 + 6 images of three classes."""
    monkeypatch.setenv("UBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tiny_imagenet, "_COUNTS", (12, 6, 3))
    return tmp_path / "home"


def save_picture(path: Path, size: tuple[int, int], seed: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(256, size=(4, 4, 3)).astype(np.uint8)
    Image.fromarray(noise).resize(size).convert(mode).save(path, "JPEG")


def write_imagenet(root: Path) -> Path:
    """Write three classes of 4 + 2 pictures of odd sizes, the last class in grey."""
    for label, name in enumerate(WNIDS):
        for part, count in (("train", 4), ("val", 2)):
            for k in range(count):
                path = root / part / name / f"{name}_{k}.JPEG"
                size = (30 + 7 * k, 50 - 9 * k + label)
                save_picture(path, size, 10 * label + k, "L" if label == 2 else "RGB")
    return root


def write_tiny(root: Path, size: int = 64) -> Path:
    lines = []
    for label, name in enumerate(WNIDS):
        for k in range(4):
            path = root / "train" / name / "images" / f"{name}_{k}.JPEG"
            save_picture(path, (size, size), 10 * label + k)
        (root / "train" / name / f"{name}_boxes.txt").write_text("unused")
    for k, name in enumerate(("n03", "n01", "n01", "n02", "n03", "n02")):
        save_picture(root / "val" / "images" / f"val_{k}.JPEG", (size, size), 50 + k)
        lines.append(f"val_{k}.JPEG\t{name}\t0\t1\t60\t61\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def subset(root: Path, **options: Any) -> ImageNetSubset:
    return ImageNetSubset(**{"path": str(root), "classes": 3, "size": 20, "crop": 16} | options)


def decoded_by_hand(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def squashed_by_torchvision(path: Path, size: int, crop: int) -> np.ndarray:
    with Image.open(path) as image:
        squashed = vision.resize(image.convert("RGB"), [size, size])
        return np.asarray(vision.center_crop(squashed, [crop, crop]))


def test_the_subset_squashes_as_the_official_test_transform_does(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path / "imagenet")
    (root / "train" / "n01" / "notes.txt").write_text("no picture")
    data = subset(root).load()
    assert data.name == "imagenet-subset"
    assert data.class_names == WNIDS
    assert data.transform == (16, True, 0.08)
    assert data.train.labels.tolist() == [label for label in range(3) for _ in range(4)]
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for part, split, crop in (("train", data.train, 20), ("val", data.test, 16)):
        files = [file for name in WNIDS for file in sorted((root / part / name).glob("*.JPEG"))]
        expected = [squashed_by_torchvision(file, 20, crop) for file in files]
        np.testing.assert_array_equal(split.images, np.stack(expected))


def test_the_subset_is_the_first_classes_by_name(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path / "imagenet")
    data = subset(root, classes=2).load()
    assert data.class_names == ("n01", "n02")
    assert (len(data.train), len(data.test), data.train.classes) == (8, 4, 2)


def test_the_defaults_are_those_of_the_papers() -> None:
    default = ImageNetSubset()
    assert (default.classes, default.size, default.crop) == (100, 256, 224)


def test_tiny_imagenet_tests_on_the_validation_images(tmp_path: Path) -> None:
    root = write_tiny(tmp_path / "tiny")
    data = TinyImageNet(path=str(root)).load()
    assert data.name == "tiny-imagenet"
    assert data.class_names == WNIDS
    assert data.transform == (8, True)
    assert data.train.labels.tolist() == [label for label in range(3) for _ in range(4)]
    assert data.test.labels.tolist() == [2, 0, 0, 1, 2, 1]
    for k in range(6):
        path = root / "val" / "images" / f"val_{k}.JPEG"
        np.testing.assert_array_equal(data.test.images[k], decoded_by_hand(path))
    path = root / "train" / "n02" / "images" / "n02_3.JPEG"
    np.testing.assert_array_equal(data.train.images[7], decoded_by_hand(path))


def test_the_published_tiny_imagenet_has_these_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert tiny_imagenet._COUNTS == (100_000, 10_000, 200)


def loaders(root: Path) -> list[Callable[[], Data]]:
    imagenet, tiny = write_imagenet(root / "imagenet"), write_tiny(root / "tiny")
    return [subset(imagenet).load, TinyImageNet(path=str(tiny)).load]


def test_pictures_are_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for load in loaders(tmp_path):
        with monkeypatch.context() as patch:
            first = load()
            fresh = Data(
                "other", first.train, first.test, first.class_names, first.transform
            ).sha256
            assert first.sha256 == fresh
            note = f"{first.name}: images are decoded once, 0.0 GB in {home}"
            assert note in capsys.readouterr().err
            patch.setattr(pictures, "_convert", lambda *_: pytest.fail("decoded again"))
            again = load()
            assert again.sha256 == first.sha256
            np.testing.assert_array_equal(again.train.images, first.train.images)
            np.testing.assert_array_equal(again.test.images, first.test.images)
        assert capsys.readouterr().err == ""
    assert len(list(home.iterdir())) == 2


def test_two_processes_may_decode_the_same_pictures_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    write, others = pictures._write, []
    load = subset(write_imagenet(tmp_path / "imagenet")).load

    def slow(*arguments: Any) -> None:
        monkeypatch.setattr(pictures, "_write", write)
        others.append(load())  # another process, which is done first
        write(*arguments)

    monkeypatch.setattr(pictures, "_write", slow)
    mine = load()
    assert mine.sha256 == others[0].sha256
    assert len(list(home.iterdir())) == 1


def test_images_stay_on_disk_unchanged(tmp_path: Path) -> None:
    data = subset(write_imagenet(tmp_path / "imagenet")).load()
    assert type(data.train.images) is np.ndarray
    assert isinstance(data.train.images.base.base, np.memmap)
    before = data.train.images.copy()
    pixels, _ = make_harness().tensors(data.train)
    pixels += 1
    np.testing.assert_array_equal(data.train.images, before)
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0] = 0


def test_many_pictures_are_decoded_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = subset(write_imagenet(tmp_path / "imagenet")).load()
    monkeypatch.setenv("UBENCH_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(pictures, "_CHUNK", 5)
    assert subset(tmp_path / "imagenet").load().sha256 == whole.sha256


def grow(root: Path) -> None:
    save_picture(root / "train" / "n01" / "n01_9.JPEG", (40, 40), 9)


def shrink(root: Path) -> None:
    (root / "train" / "n01" / "n01_0.JPEG").unlink()


def replace_picture(root: Path) -> None:
    """Another picture of the same name and number of bytes, saved a second later."""
    path = root / "train" / "n02" / "n02_0.JPEG"
    size, saved = path.stat().st_size, path.stat().st_mtime_ns
    for quality in range(1, 100):
        Image.new("RGB", (40, 40), (9, 9, 99)).save(path, quality=quality)
        if path.stat().st_size <= size:
            break
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    assert path.stat().st_size == size
    os.utime(path, ns=(saved, saved + 10**9))


def rename_class(root: Path) -> None:
    for part in ("train", "val"):
        (root / part / "n03").rename(root / part / "n04")


def swap_classes(root: Path) -> None:
    for old, new in (("n01", "aside"), ("n02", "n01"), ("aside", "n02")):
        (root / "val" / old).rename(root / "val" / new)


@pytest.mark.parametrize("change", [grow, shrink, replace_picture, rename_class, swap_classes])
def test_a_changed_folder_is_not_mistaken(tmp_path: Path, change: Callable[[Path], None]) -> None:
    root = write_imagenet(tmp_path / "imagenet")
    before = subset(root).load().sha256
    change(root)
    assert subset(root).load().sha256 != before


def test_a_changed_option_is_not_mistaken(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path / "imagenet")
    options: list[dict[str, int]] = [{}, {"size": 21}, {"crop": 15}, {"classes": 2}]
    assert len({subset(root, **changed).load().sha256 for changed in options}) == 4


def test_changed_annotations_are_not_mistaken(tmp_path: Path) -> None:
    root = write_tiny(tmp_path / "tiny")
    before = TinyImageNet(path=str(root)).load().sha256
    annotations = root / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text().replace("val_0.JPEG\tn03", "val_0.JPEG\tn02"))
    data = TinyImageNet(path=str(root)).load()
    assert data.test.labels[0] == 1
    assert data.sha256 != before


def test_a_moved_folder_is_not_decoded_again(tmp_path: Path, home: Path) -> None:
    root = write_imagenet(tmp_path / "imagenet")
    before = subset(root).load().sha256
    assert subset(root.rename(tmp_path / "elsewhere")).load().sha256 == before
    assert len(list(home.iterdir())) == 1


@pytest.mark.parametrize("name", ["train.npy", "test.npy", "sha256"])
@pytest.mark.parametrize(
    "damage", ["missing", "cut", "other", "flipped", "empty", "header", "pipe"]
)
def test_a_damaged_cache_is_set_aside_and_decoded_again(
    tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    load = subset(write_imagenet(tmp_path / "imagenet")).load
    whole = load()
    pixels = whole.train.images.copy(), whole.test.images.copy()
    (folder,) = home.iterdir()
    path = folder / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "header":  # numpy reads it as Python, and raises errors of Python's parser
        path.write_bytes(path.read_bytes().replace(b"{", b"[", 1).replace(b"0", b"g", 1))
    elif damage == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif damage == "flipped":
        path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    elif name == "sha256":
        path.write_text("")
    else:
        np.save(path, np.zeros((1, 2, 2, 3), np.uint8))
    again = load()
    np.testing.assert_array_equal(again.train.images, pixels[0])
    np.testing.assert_array_equal(again.test.images, pixels[1])
    assert again.sha256 == whole.sha256
    assert f"{folder.name} is damaged" in caplog.text
    assert (home / "damaged" / folder.name).is_dir()
    caplog.clear()
    assert load().sha256 == whole.sha256
    assert not caplog.text


def test_a_full_disk_is_seen_before_any_work(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_imagenet(tmp_path / "imagenet")
    needed = 3 * (12 * 20 * 20 + 6 * 16 * 16)
    usage = pictures.shutil._ntuple_diskusage  # type: ignore[attr-defined]
    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda _: usage(9, 9, needed - 1))
    with pytest.raises(UserError, match=r"no room for 0\.0 GB .* set UBENCH_HOME"):
        subset(root).load()
    assert list(home.iterdir()) == []
    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda _: usage(9, 9, needed))
    subset(root).load()


@pytest.mark.parametrize("damage", ["text", "cut"])
def test_an_unreadable_picture_is_named_and_nothing_is_kept(
    tmp_path: Path, home: Path, damage: str
) -> None:
    for root, load in zip(("imagenet", "tiny"), loaders(tmp_path), strict=True):
        path = next((tmp_path / root / "train" / "n02").rglob("*_1.JPEG"))
        path.write_bytes(path.read_bytes()[:-80] if damage == "cut" else b"no picture")
        with pytest.raises(UserError, match=f"{path} is not a readable image; repair or remove it"):
            load()
        assert list(home.iterdir()) == []


def test_a_picture_of_another_size_is_no_tiny_imagenet(tmp_path: Path, home: Path) -> None:
    root = write_tiny(tmp_path / "tiny")
    path = root / "val" / "images" / "val_4.JPEG"
    save_picture(path, (64, 63), 0)
    with pytest.raises(UserError, match=f"{path} is 64x63, not 64x64"):
        TinyImageNet(path=str(root)).load()
    assert list(home.iterdir()) == []


def test_a_run_goes_from_pictures_to_the_table(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path / "imagenet")
    command = ["run", "--methods", "sem,tap", "--dataset", f"imagenet-subset:{root}"]
    command += ["--preset", "smoke", "--device", "cpu", "--out", str(tmp_path / "out")]
    for setting in (
        *("subset.classes=3", "subset.size=20", "subset.crop=16"),
        *("training.steps=2", "sem.steps=2", "sem.noise_steps=1", "tap.steps=2"),
    ):
        command += ["--set", setting.replace("subset", "imagenet-subset")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "12 training and 6 test images, 3 classes, 20 px, cropped to 16 px" in result.output
    assert "3 cells computed, 0 reused" in result.output
    assert "│ SEM" in result.output
    again = CliRunner().invoke(app, command)
    assert "0 cells computed, 3 reused" in again.output
    frame = load_records(tmp_path / "out")
    assert set(frame["dataset"]) == {"imagenet-subset[classes=3,crop=16,size=20]"}


def remove(path: Path) -> None:
    for inner in path.iterdir() if path.is_dir() else ():
        remove(inner)
    path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("", "train does not exist; images go to"),
        ("train", "train does not exist; images go to"),
        ("val", "no images of class n01; they go to .*val/n01/"),
        ("train/n02", r"train has 2 class folders, not 3; use --set imagenet-subset\.classes=2"),
        ("val/n03", "no images of class n03; they go to .*val/n03/"),
    ],
)
def test_the_subset_says_what_a_folder_lacks(tmp_path: Path, gone: str, words: str) -> None:
    root = write_imagenet(tmp_path / "imagenet")
    remove(root / gone)
    with pytest.raises(UserError, match=words):
        subset(root).load()


def test_a_folder_of_no_or_one_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "imagenet" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="train has 0 class folders"):
        subset(tmp_path / "imagenet").load()
    (tmp_path / "imagenet" / "train" / "n01").mkdir()
    with pytest.raises(UserError, match="train has 1 class folders"):
        subset(tmp_path / "imagenet").load()


def test_a_crop_larger_than_the_images_is_refused() -> None:
    with pytest.raises(UserError, match=r"at most size, 40, got 224; .*imagenet-subset\.crop=35"):
        ImageNetSubset(path="x", size=40)
    assert ImageNetSubset(path="x", size=224).crop == 224


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("", "train does not exist; images go to"),
        ("train/n01/images", "it has 8 training images, 6 test images, 3 classes, not 12 "),
        ("train/n01", "line 2: no class 'n01'; unpack it again"),
        ("val", "no file .*val_annotations.txt; write --dataset tiny-imagenet:DIR"),
        (
            "val/val_annotations.txt",
            "no file .*val_annotations.txt; write --dataset tiny-imagenet:DIR",
        ),
        ("val/images/val_3.JPEG", "line 4: no file .*val_3.JPEG; unpack it again"),
    ],
)
def test_tiny_imagenet_says_what_a_folder_lacks(tmp_path: Path, gone: str, words: str) -> None:
    root = write_tiny(tmp_path / "tiny")
    remove(root / gone)
    with pytest.raises(UserError, match=words):
        TinyImageNet(path=str(root)).load()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("val_0.JPEG\tn01\t1\n", "12 training images, 1 test images, 3 classes, not 12 .* folder:"),
        ("val_0.JPEG n01\n", "line 1: no class ''"),
        ("\n", "line 1: no class ''"),
        ("\tn01\n", "line 1: no file"),
        ("", "12 training images, 0 test images"),
    ],
)
def test_tiny_imagenet_refuses_odd_annotations(tmp_path: Path, text: str, words: str) -> None:
    root = write_tiny(tmp_path / "tiny")
    (root / "val" / "val_annotations.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        TinyImageNet(path=str(root)).load()
