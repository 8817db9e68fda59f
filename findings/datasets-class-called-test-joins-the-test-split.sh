#!/usr/bin/env bash
# Training pictures of a class called "test" are test pictures too for Hugging Face's `datasets`.
#
# Expected: in a folder with train/CLASS/ and test/CLASS/, a picture belongs to the split in whose
#           folder it lies, whatever its class is called.
# Happens:  a class folder whose name holds the word test, eval or val (train/0-test/)
#           matches the patterns of that split as well: its training pictures are read as test pictures,
#           too, and its test pictures twice. A class folder "train" puts test pictures among the
#           training ones, and its training pictures there twice. There is no warning.
# Versions: datasets 5.2.0.
# Matters:  test accuracy is measured on images that were trained on, and a training set has images
#           more than once, without a sign of it but the number of rows.
# Our code: `ubench export --to folder` writes a README.md whose head names the files of each split,
#           which turns the guessing off (`unlearnable_bench/exporting/card.py`), and `--to hf` writes
#           Parquet files, in which classes are no folders.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datasets==5.2.0 pillow==13.0.0 numpy==2.4.6

cd "$folder"
HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
print("datasets", datasets.__version__)


def rows(place: str, third: str, head: str = "") -> dict[str, int]:
    """Write 10 training and 2 test pictures of each of three classes, and count the rows."""
    for split, count in (("train", 10), ("test", 2)):
        for name in ("cat", "dog", third):
            home = Path(place, split, name)
            home.mkdir(parents=True)
            for k in range(count):
                Image.new("RGB", (8, 8), (k, k, k)).save(home / f"{k}.png")
    if head:
        Path(place, "README.md").write_text(head)
    found = datasets.load_dataset(place)
    return {split: len(part) for split, part in found.items()}


HEAD = """---
configs:
- config_name: default
  data_files:
  - {split: train, path: "train/**"}
  - {split: test, path: "test/**"}
---
"""
usual = rows("usual", "bird")
print("class bird ", usual)
assert usual == {"train": 30, "test": 6}
test = rows("test-class", "2-test")
print("class 2-test", test)
assert test == {"train": 30, "test": 6 + 10 + 2}
train = rows("train-class", "2-train")
print("class 2-train", train)
assert train == {"train": 30 + 10 + 2, "test": 6}
named = rows("with-head", "2-test", HEAD)
print("class 2-test, files named in README.md", named)
assert named == {"train": 30, "test": 6}
PYTHON
