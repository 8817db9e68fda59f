"""Small folders as TensorFlow Datasets writes them."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

Value = int | bytes | float
Row = Mapping[str, Value]


def crc(content: bytes) -> int:
    """Return the masked CRC-32C of TFRecord, bit by bit."""
    state = 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    state ^= 0xFFFFFFFF
    return ((state >> 15 | state << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    checksums = (struct.pack("<I", crc(one)) for one in (length, content))
    return length + next(checksums) + content + next(checksums)


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(row: Row) -> bytes:
    """Return a `tf.train.Example` with a value per feature."""
    entries = b""
    for name, value in row.items():
        if isinstance(value, bytes):
            feature = message(1, message(1, value))
        elif isinstance(value, int):
            feature = message(3, message(1, varint(value)))
        else:
            feature = message(2, message(1, struct.pack("<f", value)))
        entries += message(1, message(1, name.encode()) + message(2, feature))
    return message(1, entries)


def write_tfds(
    root: Path,
    splits: Mapping[str, Sequence[Sequence[Row]]],
    classes: Sequence[str] = ("cat", "dog"),
    **more: object,
) -> None:
    """Write a data set with the features `image` and `label`.

    Args:
        root: the folder, which is made.
        splits: the rows of each shard of each split.
        classes: the lines of `label.labels.txt`.
        more: other features of `features.json`.
    """
    root.mkdir(parents=True)
    features = {
        "image": {"image": {"dtype": "uint8", "encodingFormat": "png"}},
        "label": {"classLabel": {"numClasses": str(len(classes))}},
        "id": {"text": {}},
    }
    (root / "features.json").write_text(json.dumps({"featuresDict": {"features": features | more}}))
    (root / "label.labels.txt").write_text("".join(f"{name}\n" for name in classes))
    lengths = [
        {"name": name, "shardLengths": [str(len(rows)) for rows in shards]}
        for name, shards in splits.items()
    ]
    info = {"name": "tiny", "fileFormat": "tfrecord", "splits": lengths}
    (root / "dataset_info.json").write_text(json.dumps(info))
    for name, shards in splits.items():
        for k, rows in enumerate(shards):
            path = root / f"tiny-{name}.tfrecord-{k:05}-of-{len(shards):05}"
            path.write_bytes(b"".join(record(example(row)) for row in rows))
