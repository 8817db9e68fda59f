#!/usr/bin/env bash
# Shuffling a stream of Hugging Face's `datasets` changes the indices that an earlier map was given.
#
# Expected: `stream.map(add_noise, with_indices=True).shuffle()` adds the noise of index k to image
#           k, and then shuffles; `filter(..., with_indices=True).shuffle()` shuffles what is left.
# Happens:  shuffling and dividing among nodes are done at the files, before the map. It then counts
#           each group of files from 0: of four files with 250 images each, all four have the
#           indices 0 to 249. Three quarters of the images get the noise of another image, and a filter
#           for the first 250 images keeps all 1000. Each node counts its own images from 0, too. One
#           file, or no shuffling, gives the right indices.
# Versions: datasets 5.2.0. The page of map speaks of example indices, that of shuffle of the order
#           of files, neither of the two together.
# Matters:  noise of samples is added to other images than those it was made for, which turns a
#           strong poison into random noise, and a share of protected images becomes another share.
# Our code: does not stream. Exported rows hold their `index` as a column
#           (unlearnable_bench/exporting/parquet.py), which shuffling keeps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datasets==5.2.0 numpy==2.4.6

cd "$folder"
HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W error::UserWarning - <<'PYTHON'
import datasets
from datasets import Dataset, load_dataset
from datasets.distributed import split_dataset_by_node

datasets.disable_progress_bars()
print("datasets", datasets.__version__)
for k in range(4):
    Dataset.from_dict({"image": list(range(250 * k, 250 * k + 250))}).to_parquet(f"{k}.parquet")


def stream(files: int):
    names = [f"{k}.parquet" for k in range(files)]
    return load_dataset("parquet", data_files=names, split="train", streaming=True)


def indexed(files: int):
    return stream(files).map(lambda row, k: {"noise": k}, with_indices=True)


def report(name: str, rows) -> tuple[int, int, int]:
    rows = list(rows)
    own = sum(row["image"] == row["noise"] for row in rows)
    different = len({row["noise"] for row in rows})
    print(f"{name:20}: {own:4} of {len(rows):4} images have their own noise, {different:4} used")
    return own, len(rows), different


assert report("in order", indexed(4)) == (1000, 1000, 1000)
assert report("shuffled, one file", indexed(1).shuffle(seed=0)) == (250, 250, 250)
own, count, different = report("shuffled, four files", indexed(4).shuffle(seed=0))
assert own <= 250 and count == 1000 and different == 250, (own, count, different)
own, count, different = report("second of two nodes", split_dataset_by_node(indexed(4), 1, 2))
assert own == 0 and count == different == 500, (own, count, different)

first = stream(4).filter(lambda row, k: k < 250, with_indices=True)
kept = [len({row["image"] for row in part}) for part in (first, first.shuffle(seed=0))]
print("a filter for the first 250 images keeps", kept[0], "of 1000, and with shuffling", kept[1])
assert kept == [250, 1000], kept
PYTHON
