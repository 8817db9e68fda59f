"""What tests of the documents have in common: their blocks, commands and stand-in files."""

import re
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tfds_folders import write_tfds

from unlearnable_bench import Data
from unlearnable_bench.datasets import cache, official, tiny_imagenet
from unlearnable_bench.datasets.npz import write_npz
from unlearnable_bench.datasets.shapes import Shapes
from unlearnable_bench.screen import console

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SHELL = ("", "bash", "console")
_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        language: as written behind the fence.
        text: what is inside.
        rendered: whether it is copied from a file.
    """

    language: str
    text: str
    rendered: bool


def blocks(document: str) -> Iterator[Block]:
    """Yield the fenced blocks of a document, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        rendered = text[: found.start()].rstrip().endswith("-->")
        yield Block(found[1], found[2], rendered)


def commands(block: Block) -> list[list[str]]:
    """Return the words of each `ubench` command of a block of a shell's lines."""
    if block.language not in SHELL:
        return []
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ ").removesuffix("&"), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words and words[0] == "ubench":
            found.append(words)
    return found


def stand_in_for_data(monkeypatch: pytest.MonkeyPatch, folder: Path, data: Data) -> None:
    """Let commands find small data under every name, in `folder`, and estimate no time."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UBENCH_HOME", str(folder))
    monkeypatch.setattr(tiny_imagenet, "_COUNTS", (2, 1, 2))
    for name in ("cifar10", "cifar100", "svhn"):
        shape = (len(data.train), len(data.test), 32, 100 if name == "cifar100" else 10)
        monkeypatch.setitem(cache.SHAPES, name, shape)
        monkeypatch.delitem(official.OFFICIAL, name, raising=False)
    monkeypatch.setattr(Shapes, "load", lambda _: data)
    monkeypatch.setattr(console, "estimate", lambda *_, **__: "not timed")


def save_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64)).save(path)


def write_stand_ins(folder: Path, data: Data) -> None:
    """Write a small file or folder for each that the documents name, with these images."""
    write_npz(data, folder / "mine.npz")
    np.savez(folder / "purified.npz", images=data.train.images)
    for name, size in (("pathmnist", 28), ("bloodmnist_64", 64)):
        images, labels = np.zeros((4, size, size, 3), np.uint8), np.arange(4)[:, None] % 2
        parts = {"train_images": images, "test_images": images}
        np.savez(folder / f"{name}.npz", **parts, train_labels=labels, test_labels=labels)
    np.save(folder / "noise.npy", np.ones(data.train.images.shape, np.int8))
    for name in ("cifar10", "cifar100", "svhn"):
        classes = tuple(map(str, range(100))) if name == "cifar100" else data.class_names
        train, test = (replace(part, classes=len(classes)) for part in (data.train, data.test))
        write_npz(
            replace(data, train=train, test=test, class_names=classes), folder / f"{name}.npz"
        )
    for k in range(100):
        for part in ("train", "val"):
            save_picture(folder / "imagenet" / part / f"n{k:02}" / "0.png")
    for name in ("ant", "bee"):
        save_picture(folder / "tiny-imagenet-200" / "train" / name / "images" / "0.png")
        save_picture(folder / "pictures" / "train" / name / "0.png")
        save_picture(folder / "pictures" / "test" / name / "0.png")
        save_picture(folder / "faces" / name / "0.png")
        save_picture(folder / "faces" / name / "1.png")
    picture = (folder / "pictures" / "train" / "ant" / "0.png").read_bytes()
    rows = [[{"image": picture, "label": label} for label in (0, 1)]]
    write_tfds(folder / "cifar10" / "3.0.2", {"train": rows, "test": rows})
    (folder / "shards").mkdir()
    for part in ("train", "test"):
        with tarfile.open(folder / "shards" / f"{part}-000000.tar", "w") as tar:
            for k, name in enumerate(("ant", "bee")):
                (folder / f"{k}.cls").write_text(str(k))
                tar.add(folder / "pictures" / part / name / "0.png", f"{k}.png")
                tar.add(folder / f"{k}.cls", f"{k}.cls")
    save_picture(folder / "tiny-imagenet-200" / "val" / "images" / "0.png")
    annotations = folder / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    annotations.write_text("0.png\tbee\t0\t0\t9\t9\n")
