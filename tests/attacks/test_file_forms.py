"""Poisons in the forms in which they are published reach their images, or are refused."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from file_arrays import COUNT, IMAGES, NOISE, POISONED
from PIL import Image

from unlearnable_bench import ImageSet, Radius, UserError
from unlearnable_bench.attacks.file import File
from unlearnable_bench.images import Pixels

CLEAN, LABELS = IMAGES.images, IMAGES.labels
FILES = tuple(f"{'abcd'[label]}/{k}.JPEG" for k, label in enumerate(LABELS))
NAMED = ImageSet(CLEAN, LABELS, 4, FILES)


def added(noise: np.ndarray) -> Pixels:
    whole: Pixels = np.clip(CLEAN.astype(int) + noise, 0, 255).astype(np.uint8)
    return whole


def read(path: Path, images: ImageSet = IMAGES, **options: Any) -> tuple[Pixels, str]:
    """Return the poisoned images, and the line of the plan from its verb on."""
    attack = File(path=str(path), **options).resolved(images)
    line = attack.check(images)
    harness: Any = None  # not used
    return attack.generate(images, harness).images, line.removeprefix(f"{path} is read as ")


def refused(path: Path, words: str, images: ImageSet = IMAGES, **options: Any) -> None:
    with pytest.raises(UserError, match=words) as error:
        read(path, images, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + 2 * len(str(path))


def write_pictures(folder: Path, array: np.ndarray, names: Callable[[int], str]) -> Path:
    for k, pixels in enumerate(array):
        file = folder / names(k)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return folder


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder.parent))
    return path


PER_CLASS = np.random.default_rng(2).integers(-8, 9, (4, *CLEAN.shape[1:]))


@pytest.mark.parametrize("ending", ["npy", "pt"])
@pytest.mark.parametrize("first", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize(
    ("array", "noise", "line"),
    [
        (PER_CLASS, PER_CLASS[LABELS], r"\[C, .*\]\); one per class, dealt out by label$"),
        (PER_CLASS[:1], PER_CLASS[:1], r"\[1, .*\]\); one for all images$"),
        (PER_CLASS[0], PER_CLASS[:1], r"\[(3, H, W|H, W, 3)\]\); one for all images$"),
    ],
    ids=["per class", "one", "one without axis"],
)
def test_shared_noise_reaches_its_images(
    tmp_path: Path, array: np.ndarray, noise: np.ndarray, line: str, ending: str, *, first: bool
) -> None:
    values = (np.moveaxis(array, -1, -3) if first else array) / np.float32(255)
    path = tmp_path / f"noise.{ending}"
    if ending == "pt":
        torch.save(torch.tensor(np.ascontiguousarray(values)), path)
    else:
        np.save(path, values)
    images, told = read(path)
    np.testing.assert_array_equal(images, added(noise))
    assert re.search(line, told)


def test_noise_per_class_may_have_labels_of_its_own(tmp_path: Path) -> None:
    order = np.array([2, 0, 3, 1])
    np.savez(tmp_path / "noise.npz", noise=PER_CLASS[order], labels=order)
    np.testing.assert_array_equal(read(tmp_path / "noise.npz")[0], added(PER_CLASS[LABELS]))


def test_as_many_images_as_classes_need_labels(tmp_path: Path) -> None:
    images = ImageSet(CLEAN[:4], np.array([1, 0, 3, 2]), 4)
    np.save(tmp_path / "noise.npy", PER_CLASS)
    refused(tmp_path / "noise.npy", "as many images as classes; save the labels", images)
    np.savez(tmp_path / "noise.npz", noise=PER_CLASS, labels=images.labels)
    expected = np.clip(CLEAN[:4].astype(int) + PER_CLASS, 0, 255)
    np.testing.assert_array_equal(read(tmp_path / "noise.npz", images)[0], expected)
    np.savez(tmp_path / "noise.npz", noise=PER_CLASS, labels=np.arange(4))
    expected = np.clip(CLEAN[:4].astype(int) + PER_CLASS[images.labels], 0, 255)
    np.testing.assert_array_equal(read(tmp_path / "noise.npz", images)[0], expected)


def test_an_image_per_class_is_no_poison(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", POISONED[:4])
    refused(tmp_path / "images.npy", "poisoned images in 8-bit levels, one per class.*; give an")


def test_rows_sorted_by_label_are_dealt_out_within_each_class(tmp_path: Path) -> None:
    labels = np.random.default_rng(4).permutation(LABELS)
    images = ImageSet(CLEAN, labels, 4)
    expected, taken = np.empty_like(NOISE), [0, 0, 0, 0]
    for k, label in enumerate(labels):
        expected[k] = NOISE[10 * label + taken[label]]
        taken[label] += 1
    np.savez(tmp_path / "lsp.npz", noise=NOISE, labels=np.sort(labels))
    dealt, line = read(tmp_path / "lsp.npz", images)
    np.testing.assert_array_equal(dealt, added(expected))
    assert line.endswith("to the images of each class in order; order not checked")
    np.save(tmp_path / "lsp.npy", NOISE)
    (tmp_path / "lsp.csv").write_text("\n".join(map(str, np.sort(labels))))
    refused(tmp_path / "lsp.npy", r"lsp\.csv sorts the rows by label.*np\.savez", images)
    np.savez(tmp_path / "lsp.npz", noise=NOISE, labels=np.repeat([0, 1, 2, 3], [11, 9, 10, 10]))
    refused(tmp_path / "lsp.npz", "has 11 rows of class 0, the data has 10 images of it", images)
    np.savez(tmp_path / "lsp.npz", noise=NOISE, labels=np.sort(labels) - 1)
    refused(tmp_path / "lsp.npz", "has 10 rows of class -1, the data has 0 images", images)


@pytest.mark.parametrize("images", [True, False], ids=["images", "noise"])
def test_a_part_of_the_images_has_their_indices(tmp_path: Path, *, images: bool) -> None:
    index = np.random.default_rng(5).permutation(COUNT)[:32]
    rows = (POISONED / 255).astype(np.float32)[index] if images else NOISE[index].astype(np.int8)
    one_hot = np.eye(4)[LABELS[index]]
    np.savez(tmp_path / "ntga.npz", x_train=rows, y_train=one_hot, index=index)
    expected = CLEAN.copy()
    expected[index] = POISONED[index]
    poisoned, line = read(tmp_path / "ntga.npz")
    np.testing.assert_array_equal(poisoned, expected)
    assert "dealt out by index, 32 of 40 images; the others stay clean; order checked" in line
    for wrong, words in (
        (index + 1, r"the indices span \d+ to 40, allowed: 0 to 39$"),
        (np.append(index[:-1], index[0]), rf"image {index[0]} has more than one row"),
        (np.roll(index, 1), "the label of"),
    ):
        np.savez(tmp_path / "ntga.npz", x_train=rows, y_train=LABELS[index], index=wrong)
        refused(tmp_path / "ntga.npz", words)
    np.savez(tmp_path / "ntga.npz", x_train=NOISE, index=np.arange(COUNT))
    assert read(tmp_path / "ntga.npz")[1].endswith("[N, H, W, 3]); order not checked")
    np.savez(tmp_path / "ntga.npz", x_train=NOISE, index=np.arange(1, COUNT + 1))
    refused(tmp_path / "ntga.npz", "span 1 to 40, .*; subtract 1 if they count from 1")
    np.savez(tmp_path / "ntga.npz", x_train=rows, y_train=LABELS[index])
    refused(tmp_path / "ntga.npz", "save the indices of these, from 0: .*index=index")


LAYOUTS: dict[str, Callable[[int], str]] = {
    "numbers": lambda k: f"{k}.png",
    "in a folder": lambda k: f"data/{k}.png",
    "with zeros and a word": lambda k: f"data/poison_{k:05}.PNG",
    "of classes": lambda k: f"class_{'abcd'[LABELS[k]]}/{k}.png",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_pictures_are_ordered_by_the_number_in_their_names(
    tmp_path: Path, layout: str, form: str
) -> None:
    folder = write_pictures(tmp_path / "tap", POISONED, LAYOUTS[layout])
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "7.png").write_bytes(b"thumbnail")
    (folder / "README.txt").write_text("1")
    path = zipped(folder) if form == "zip" else folder
    poisoned, line = read(path)
    np.testing.assert_array_equal(poisoned, POISONED)
    assert line == (
        "poisoned images in 8-bit levels (uint8 pictures); dealt out by the number in their names; "
        "order checked: each is nearest to its own clean image"
    )


def test_pictures_reach_the_files_of_their_names(tmp_path: Path) -> None:
    text_order = np.argsort(FILES)
    named = ImageSet(CLEAN[text_order], LABELS[text_order], 4, tuple(np.array(FILES)[text_order]))
    folder = write_pictures(
        tmp_path / "noise", (128 + NOISE).astype(np.uint8), lambda k: f"{k}.png"
    )
    poisoned, line = read(folder, named)
    np.testing.assert_array_equal(poisoned, POISONED[text_order])
    assert line == (
        "noise in 8-bit levels around 128 (uint8 pictures); dealt out by file name; order not "
        "checked"
    )
    (folder / "3.png").rename(folder / "x.png")
    refused(folder, "x.png is not the name of one training image, as 39 other names are", named)
    (folder / "x.png").unlink()
    assert "by file name, 39 of 40 images; the others stay clean" in read(folder, named)[1]


def test_rows_of_an_array_reach_the_files_of_their_names(tmp_path: Path) -> None:
    order = np.random.default_rng(6).permutation(COUNT)
    for prefix, ending in (("", ".JPEG"), ("./train/", ".png")):
        names = [prefix + FILES[k].replace(".JPEG", ending) for k in order]
        np.savez(tmp_path / "n.npz", noise=NOISE[order], files=names, labels=LABELS[order])
        poisoned, line = read(tmp_path / "n.npz", NAMED)
        np.testing.assert_array_equal(poisoned, POISONED)
        assert line.endswith("dealt out by file name; order checked: labels agree")
    np.savez(tmp_path / "n.npz", noise=NOISE[order], files=names, labels=LABELS)
    refused(tmp_path / "n.npz", "the label of", NAMED)


def test_pictures_of_noise_have_128_for_0(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "n", (128 + NOISE).astype(np.uint8), lambda k: f"{k}.png")
    poisoned, line = read(folder)
    np.testing.assert_array_equal(poisoned, POISONED)
    assert line.startswith("noise in 8-bit levels around 128")
    refused(folder, r"reaches 8/255, beyond file\.rho_u=4/255", rho_u=Radius("4/255"))
    np.save(tmp_path / "n.npy", (128 + NOISE).astype(np.uint8))
    np.testing.assert_array_equal(read(tmp_path / "n.npy")[0], POISONED)
    grey = ImageSet((112 + CLEAN // 8).astype(np.uint8), LABELS, 4)
    np.save(tmp_path / "grey.npy", grey.images + (NOISE > 0).astype(np.uint8))
    assert read(tmp_path / "grey.npy", grey)[1].startswith("poisoned images in 8-bit levels (")


def picture(path: Path, mode: str = "RGB", size: int = 8) -> None:
    Image.new(mode, (size, size)).save(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: picture(d / "x.png"), "x.png has no number in its name, and the names are not"),
        (lambda d: picture(d / "1_2.png"), "1_2.png has not one number in its name"),
        (
            lambda d: picture(d / "007.png"),
            r"007\.png and \S*7\.png have the same number; remove one",
        ),
        (lambda d: picture(d / "40.png"), "the indices span 0 to 40, allowed: 0 to 39"),
        (lambda d: picture(d / "40.png", size=9), r"40\.png is 9x9, \S*0\.png is 8x8; save all"),
        (lambda d: picture(d / "7.png", "RGBA"), "7.png has the mode RGBA; save it as an RGB PNG"),
        (lambda d: picture(d / "7.png", "I;16"), "7.png has the mode I;16; save it"),
        (lambda d: (d / "7.png").write_bytes(b"<html>"), "7.png is not a readable picture; repair"),
        (lambda d: (d / "7.png").rename(d / "8.png"), "closer to another clean image than"),
    ],
    ids=["word", "two", "same", "beyond", "size", "RGBA", "I;16", "html", "lost"],
)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_pictures_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[Path], object], words: str, form: str
) -> None:
    folder = write_pictures(tmp_path / "tap", POISONED, lambda k: f"{k}.png")
    change(folder)
    refused(zipped(folder) if form == "zip" else folder, words)


def test_the_pictures_are_part_of_the_key(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "tap", POISONED, lambda k: f"{k}.png")
    prints = [File(path=str(folder)).fingerprint()]
    (folder / "README.txt").write_text("1")
    assert File(path=str(folder)).fingerprint() == prints[0]
    (folder / "39.png").rename(folder / "40.png")
    prints.append(File(path=str(folder)).fingerprint())
    Image.fromarray(POISONED[0]).save(folder / "40.png")
    prints.append(File(path=str(folder)).fingerprint())
    assert len({*prints}) == 3
