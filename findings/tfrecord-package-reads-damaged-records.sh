#!/usr/bin/env bash
# Two readers of TFRecord files return damaged records as if they were whole.
#
# Expected: a TFRecord stores a checksum (CRC-32C) of the length and of the content of each record,
#           so that a reader can refuse a record that has changed.
# Happens:  the packages tfrecord and tfd-utils do not compare them. tfrecord writes right ones, so its
#           files look protected; after one bit of a picture has changed on the disk, both packages
#           return the record with the other pixel, without an error or a warning.
# Versions: tfrecord 1.14.6, tfd-utils 1.3.0, crc32c 2.9.
# Matters:  noise of 8 levels of 255 is all that a poison consists of, and a damaged download of a
#           data set would become other training data. Who chooses a small package, to read folders of
#           TensorFlow Datasets without TensorFlow, loses the check without knowing.
# Our code: reads TFRecords itself and compares both checksums of each record
#           (`records` in unlearnable_bench/datasets/tfrecord.py; tests/datasets/test_tfds.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile tfrecord==1.14.6 tfd-utils==1.3.0 \
  crc32c==2.9.post0 numpy==2.4.6 protobuf==5.29.6

cd "$folder"
venv/bin/python - <<'PYTHON'
import struct
from importlib.metadata import version
from pathlib import Path

import crc32c
from tfd_utils.random_access import TFRecordRandomAccess
from tfrecord.reader import tfrecord_loader
from tfrecord.writer import TFRecordWriter

PIXELS = bytes(range(100, 148))
FEATURES = {"key": "byte", "image": "byte"}


def by_tfrecord(name):
    return [bytes(record["image"]) for record in tfrecord_loader(name, None, FEATURES)]


def by_tfd_utils(name):
    reader = TFRecordRandomAccess(name, use_multiprocessing=False)
    return [reader.get_feature(key, "image") for key in ("0", "1")]


def sound(name):
    """Compare the checksum of each record's content, as the format defines it."""
    content, found = Path(name).read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        data, (stored,) = content[12 : 12 + length], struct.unpack("<I", content[12 + length :][:4])
        crc = crc32c.crc32c(data)
        found.append(stored == (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF))
        content = content[16 + length :]
    return found


writer = TFRecordWriter("whole.tfrecord")
for key in (b"0", b"1"):
    writer.write({"key": (key, "byte"), "image": (PIXELS, "byte")})
writer.close()

content = bytearray(Path("whole.tfrecord").read_bytes())
content[content.rfind(PIXELS) + 5] ^= 64
Path("damaged.tfrecord").write_bytes(content)

for name in ("whole.tfrecord", "damaged.tfrecord"):
    print(f"{name}: checksums fit: {sound(name)}")
for package, read in (("tfrecord", by_tfrecord), ("tfd-utils", by_tfd_utils)):
    before, after = read("whole.tfrecord"), read("damaged.tfrecord")
    changed = [[k for k in range(48) if a[k] != b[k]] for a, b in zip(before, after)]
    print(f"{package} {version(package)}: pixels that differ, by record: {changed}")
    assert before == [PIXELS, PIXELS]
    assert changed == [[], [5]]
assert sound("whole.tfrecord") == [True, True]
assert sound("damaged.tfrecord") == [True, False]
PYTHON
