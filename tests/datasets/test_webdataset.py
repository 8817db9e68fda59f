"""Shards of WebDataset are data sets, in the order of shards and samples."""

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from exported_sets import poisoned_set
from PIL import Image

from unlearnable_bench import UserError, make_plan
from unlearnable_bench.datasets.webdataset import WebDataset
from unlearnable_bench.exporting.writing import write as export


def png(level: int, size: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), (level, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def samples(levels: Iterable[int]) -> list[tuple[str, bytes]]:
    """Return image and label of each level, whose label is its last bit."""
    return [
        member
        for level in levels
        for member in (
            (f"{level:04}.png", png(level)),
            (f"{level:04}.cls", str(level % 2).encode()),
        )
    ]


def levels_of(images: np.ndarray) -> list[int]:
    found: list[int] = images[:, 0, 0, 0].tolist()
    return found


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-{}.tar", "test-{}.tar"),
        ("train/{}.tar", "val/{}.tar"),
        ("train_shard{}.tar.gz", "validation{}.tgz"),
    ],
)
def test_shards_are_read_in_the_order_of_their_numbers(
    tmp_path: Path, train: str, test: str
) -> None:
    for shard, levels in ((2, (9, 4)), (10, (3,)), (0, (8, 1))):
        write(tmp_path / train.format(shard), samples(levels))
    write(tmp_path / test.format(0), samples((5, 6)))
    (tmp_path / "trainer.tar").write_bytes(b"another file")
    data = WebDataset(path=str(tmp_path)).load()
    assert data.name == f"webdataset:{tmp_path.name}"
    assert levels_of(data.train.images) == [8, 1, 9, 4, 3]
    assert data.train.labels.tolist() == [0, 1, 1, 0, 1]
    assert data.train.files == ("0008.png", "0001.png", "0009.png", "0004.png", "0003.png")
    assert (levels_of(data.test.images), data.test.labels.tolist()) == ([5, 6], [1, 0])
    assert (data.class_names, data.transform) == (("0", "1"), (1, True))
    plan = make_plan(methods=["random"], dataset=f"webdataset:{tmp_path}", preset="smoke")
    assert plan.data.sha256 == data.sha256


def test_labels_may_be_names_or_stand_in_json(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(
            tmp_path / f"{part}.tar",
            [
                ("b/0.json", json.dumps({"label": "owl", "index": 0}).encode()),
                ("b/0.png", png(1)),
                ("b/1.png", png(2)),
                ("b/1.cls.txt", b"cat\n"),
                ("b/._1.png", b"of a Mac"),
                ("readme.md", b"no sample"),
            ],
        )
    data = WebDataset(path=str(tmp_path)).load()
    assert (data.class_names, data.train.labels.tolist()) == (("cat", "owl"), [1, 0])


def test_a_list_names_the_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path / f"{part}.tar", samples(range(4)))
    about = json.dumps({"label": 1, "class": "fox"}).encode()
    write(tmp_path / "train-2.tar", [("5.png", png(5)), ("5.cls", b"1"), ("5.json", about)])
    assert WebDataset(path=str(tmp_path)).load().class_names == ("0", "fox")
    (tmp_path / "classnames.txt").write_text("even\nodd\nnone\n")
    assert WebDataset(path=str(tmp_path)).load().class_names == ("even", "odd", "none")
    (tmp_path / "classnames.txt").write_text("even\n")
    with pytest.raises(UserError, match="has 1 names, the labels go up to 1; give one per line"):
        WebDataset(path=str(tmp_path)).load()


def test_exported_shards_are_a_data_set(tmp_path: Path) -> None:
    poisoned = poisoned_set()
    data = WebDataset(path=str(export(poisoned, tmp_path / "made", "webdataset"))).load()
    assert data.class_names == poisoned.class_names
    for part, images in poisoned.splits().items():
        np.testing.assert_array_equal(getattr(data, part).images, images.images)
        np.testing.assert_array_equal(getattr(data, part).labels, images.labels)


def torn(path: Path) -> None:
    write(path, samples(range(4)))
    path.write_bytes(path.read_bytes()[:700])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, r"no shards train-\*\.tar or train/\*\.tar; images go to"),
        (torn, "is not a readable tar file"),
        (lambda p: write(p, [("readme", b"")]), "have no images"),
        (lambda p: write(p, [("0.png", png(1))]), r"0\.png has no label; add 0\.cls"),
        (lambda p: write(p, [("0.png", b"<html>"), ("0.cls", b"0")]), "0.png is not a readable"),
        (lambda p: write(p, [("0.json", b"{")]), r"0\.json is not JSON"),
        (
            lambda p: write(p, [("img.v2.png", png(1)), ("img.v3.png", png(2))]),
            r"img\.v2\.png and img\.v3\.png are one sample, since a dot ends its key",
        ),
        (
            lambda p: write(p, [*samples([1]), ("9.png", png(1, 9)), ("9.cls", b"0")]),
            r"9\.png is 9x9, the first image is 8x8; .*webdataset\.size=64",
        ),
        (lambda p: write(p, [("0.png", png(1)), ("0.cls", b"70000")]), "the label 70000 and"),
    ],
    ids=["missing", "torn", "none", "unlabelled", "html", "json", "dots", "sizes", "label"],
)
def test_shards_that_cannot_be_used_are_refused(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    for part in ("train", "test"):
        write(tmp_path / f"{part}-000000.tar", samples(range(4)))
    spoil(tmp_path / "train-000000.tar")
    with pytest.raises(UserError, match=words) as error:
        WebDataset(path=str(tmp_path)).load()
    assert "\n" not in str(error.value)


def test_a_file_is_no_folder_of_shards(tmp_path: Path) -> None:
    write(tmp_path / "train.tar", samples(range(4)))
    with pytest.raises(UserError, match="is a file, not a folder"):
        WebDataset(path=str(tmp_path / "train.tar")).load()
