"""Folders of TensorFlow Datasets are data sets, and damage is named."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tfds_folders import Row, crc, record, write_tfds

from unlearnable_bench import UserError, make_plan
from unlearnable_bench.datasets.example import features
from unlearnable_bench.datasets.tfds import TFDS
from unlearnable_bench.datasets.tfrecord import masked_crcs, records

# What TensorFlow 2.21 writes: the records b"abc" and b"", and an Example.
RECORDS = "0300000000000000b099490e6162636e57f121000000000000000029039807d8ea82a2"
EXAMPLE = (
    "0a3f0a0f0a03626f78120812060a040000003f0a110a05696d61676512080a060a0489504e47"
    "0a190a056c6162656c12101a0e0a0cffffffffffffffffff01ac02"
)


def row(level: int, size: int = 8, **changed: Any) -> Row:
    """Return a picture of one red level, whose label is its last bit."""
    stream = io.BytesIO()
    Image.new("RGB", (size, size), (level, 0, 0)).save(stream, "PNG")
    return {"image": stream.getvalue(), "label": level % 2, "id": b"x", "box": 0.5} | changed


def levels_of(images: np.ndarray) -> list[int]:
    found: list[int] = images[:, 0, 0, 0].tolist()
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A version folder with two training shards and a test shard."""
    place = tmp_path / "tiny" / "1.0.0"
    train = [[row(8), row(1), row(9)], [row(4), row(3)]]
    write_tfds(place, {"train": train, "test": [[row(5), row(6)]]})
    return place


def test_records_and_examples_of_tensorflow_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    path.write_bytes(bytes.fromhex(RECORDS))
    assert [bytes(one) for one in records(path)] == [b"abc", b""]
    assert features(memoryview(bytes.fromhex(EXAMPLE))) == {
        "box": [],
        "image": [b"\x89PNG"],
        "label": [-1, 300],
    }


def test_checksums_are_those_of_the_standard_and_do_not_depend_on_the_neighbours() -> None:
    # RFC 3720: CRC-32C of "123456789" is 0xE3069283; TFRecord rotates by 15 and adds a constant.
    expected = ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert crc(b"123456789") == expected
    content = np.random.default_rng(0).integers(0, 256, 60, dtype=np.uint8)
    starts, lengths = np.array([50, 0, 7, 20]), np.array([9, 0, 13, 30])
    found = masked_crcs(content, starts, lengths)
    parts = [content[s : s + n].tobytes() for s, n in zip(starts, lengths, strict=True)]
    assert found.tolist() == [crc(part) for part in parts]


def test_shards_and_records_keep_their_order(root: Path) -> None:
    for path in (root, root.parent):
        data = TFDS(path=str(path)).load()
        assert data.name == "tfds:tiny"
        assert levels_of(data.train.images) == [8, 1, 9, 4, 3]
        assert data.train.labels.tolist() == [0, 1, 1, 0, 1]
        assert (levels_of(data.test.images), data.test.labels.tolist()) == ([5, 6], [1, 0])
        assert (data.class_names, data.transform) == (("cat", "dog"), (1, True))
    plan = make_plan(methods=["random"], dataset=f"tfds:{root}", preset="smoke")
    assert plan.data.sha256 == data.sha256


def test_splits_features_and_sizes_can_be_chosen(tmp_path: Path) -> None:
    rows = [row(k, 8 + k, **{"more/fine": k, "photo": row(9 - k)["image"]}) for k in range(3)]
    write_tfds(
        tmp_path / "tiny",
        {"a": [rows], "validation": [rows]},
        photo={"image": {}},
        more={"featuresDict": {"features": {"fine": {"classLabel": {"numClasses": "3"}}}}},
    )
    made = TFDS(
        path=str(tmp_path / "tiny"), train="a", image="photo", label="more/fine", size=4, pad=2
    )
    data = made.load()
    assert (levels_of(data.train.images), data.train.labels.tolist()) == ([9, 8, 7], [0, 1, 2])
    assert (data.class_names, data.train.size, data.transform.pad) == (("0", "1", "2"), 4, 2)


def test_without_a_list_classes_are_called_by_their_labels(root: Path) -> None:
    (root / "label.labels.txt").unlink()
    assert TFDS(path=str(root)).load().class_names == ("0", "1")


def shard(root: Path) -> Path:
    return root / "tiny-train.tfrecord-00001-of-00002"


def spoiled(change: Callable[[bytearray], object]) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        content = bytearray(shard(root).read_bytes())
        change(content)
        shard(root).write_bytes(content)

    return spoil


def flip(position: int) -> Callable[[bytearray], object]:
    return lambda content: content.__setitem__(position, content[position] ^ 1)


def rewritten(*rows: Row) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        splits = {"train": [rows[:0], rows] if rows else [[], []], "test": [[row(1)]]}
        for path in root.iterdir():
            path.unlink()
        root.rmdir()
        write_tfds(root, splits)

    return spoil


def edited(name: str, **changed: object) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        held = json.loads((root / name).read_text())
        (root / name).write_text(json.dumps(held | changed))

    return spoil


def featured(**features: object) -> Callable[[Path], object]:
    return edited("features.json", featuresDict={"features": features})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoiled(flip(200)), r"00001-of-00002 is damaged at record 1: its checksum .*copy it"),
        (spoiled(flip(9)), "is damaged at record 0: its checksum does not fit"),
        (spoiled(flip(6)), "is damaged or no TFRecord file at record 0"),
        (spoiled(lambda c: c.__delitem__(slice(-3, None))), "is cut off at record 1; copy it"),
        (spoiled(lambda c: c.extend(b"abc")), "is cut off at record 2; copy it again"),
        (lambda p: shard(p).write_bytes(b"<html>"), "is damaged or no TFRecord file at record 0"),
        (lambda p: shard(p).write_bytes(record(b"\x0a")), "has 1 records, .* says 2"),
        (lambda p: shard(p).write_bytes(record(b"\x0a\x05") * 2), "record 0 cannot be read: it is"),
        (lambda p: shard(p).write_bytes(record(b"\xff") * 2), "record 0 cannot be read: it is cut"),
        (lambda p: shard(p).write_bytes(record(b"\x0c") * 2), "unknown type 4"),
        (lambda p: shard(p).unlink(), r"lacks 1 of 2 files of the split train.*train\.tfrecord-0"),
        (rewritten({"image": b"x", "label": 0}), "record 0 is not a readable image"),
        (rewritten({"label": 0}), "record 0 has no image in the feature image, it has label"),
        (rewritten(row(1, label=b"1")), "record 0 has no label in the feature label, it has box"),
        (rewritten(row(1, label=-1)), r"label -1, .*hidden with --set tfds\.train="),
        (rewritten(row(1), row(2, 9)), r"record 1 is 9x9, the first image is 8x8; .*tfds\.size=64"),
        (rewritten(), "has no images; write the data set again"),
        (lambda p: (p / "features.json").unlink(), r"features\.json is missing; copy the whole"),
        (lambda p: (p / "features.json").write_text("{"), r"features\.json is not readable JSON"),
        (lambda p: (p / "features.json").write_text("[]"), "holds no JSON object"),
        (edited("features.json", featuresDict={}), r"features\.json describes no features; copy"),
        (edited("features.json", featuresDict=3), "describes no features"),
        (featured(image=None), "describes no features"),
        (featured(label={"classLabel": {"numClasses": "x"}}), "describes no features"),
        (featured(), "has no features of images, it has none"),
        (lambda p: (p / "dataset_info.json").unlink(), r"has no dataset_info\.json; give the fold"),
        (edited("dataset_info.json", fileFormat="array_record"), "holds array_record files; write"),
        (edited("dataset_info.json", splits=[{"name": "train"}]), "names no splits with shardLen"),
        (
            edited("dataset_info.json", splits=[{"name": "train", "shardLengths": ["3", "2"]}]),
            r"has no split test or validation .*, it has train; name one with --set tfds\.test=",
        ),
        (lambda p: (p / "label.labels.txt").write_text("cat\n"), "has 1 names, .* says 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_in_one_line(
    root: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(root)
    with pytest.raises(UserError, match=words) as error:
        TFDS(path=str(root)).load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": "photo"}, r"no feature of images 'photo', it has image, label, id; name one of"),
        ({"label": "id"}, r"no feature of labels 'id', .* --set tfds\.label=FEATURE"),
        ({"test": "train"}, r"both the split train; name another with --set tfds\.test=SPLIT"),
        ({"train": "all"}, r"no split all, it has train, test; .* --set tfds\.train=SPLIT"),
    ],
)
def test_names_that_are_missing_are_answered_with_those_that_exist(
    root: Path, options: dict[str, str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        TFDS(path=str(root), **options).load()


def test_of_two_versions_one_must_be_named(root: Path) -> None:
    write_tfds(root.parent / "2.0.0", {"train": [[row(1)]]})
    with pytest.raises(UserError, match=r"holds 2 data sets; give one of .*1\.0\.0, .*2\.0\.0"):
        TFDS(path=str(root.parent)).load()
    with pytest.raises(UserError, match="no such folder; write --dataset tfds:FOLDER"):
        TFDS(path=str(root / "gone")).load()
    with pytest.raises(UserError, match="is a file, not a folder"):
        TFDS(path=str(root / "features.json")).load()


def test_a_length_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    length = struct.pack("<Q", 1 << 60)
    path = tmp_path / "x.tfrecord"
    path.write_bytes(length + struct.pack("<I", crc(length)) + b"abc")
    with pytest.raises(UserError, match="is cut off at record 0"):
        records(path)
