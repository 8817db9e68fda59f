#!/usr/bin/env bash
# Hugging Face's class_encode_column gives the labels 0 to 99 other numbers, and each split its own.
#
# Expected: labels that are numbers from 0 to n - 1 keep them, and a class has one number in all
#           splits of a DatasetDict.
# Happens:  the numbers become texts, which are sorted as texts: 10 comes before 2, so class 10 of
#           eleven becomes label 2. Of 100 classes, 12 keep their number. In a DatasetDict each split
#           is numbered by itself: if the test images lack the first class, all their labels are one
#           less than those of the training images. There is no warning; the names of the classes are
#           right in each split.
# Versions: datasets 5.2.0. The page of the function shows two classes, and names no order.
# Matters:  noise of classes is added to other classes than those it was made for, predictions are
#           compared with labels of another numbering, and in the second case test accuracy falls to
#           chance, as if the training images were poisoned. Ten classes or fewer show none of the
#           first case: it begins when CIFAR-10 is replaced by CIFAR-100.
# Our code: does not call it. `hf:` takes numbers as they are, and names the classes of texts once,
#           from the training images, for both splits (`_class_names` in
#           unlearnable_bench/datasets/hf.py); `ubench export --to hf` writes the classes itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datasets==5.2.0 numpy==2.4.6

cd "$folder"
HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import datasets
from datasets import Dataset, DatasetDict

datasets.disable_progress_bars()
print("datasets", datasets.__version__)


def encoded(count: int) -> list[int]:
    """Encode the labels 0 to count - 1."""
    part = Dataset.from_dict({"label": list(range(count))})
    return part.class_encode_column("label")["label"][:]


for count in (10, 12, 100):
    labels = encoded(count)
    kept = sum(new == old for old, new in enumerate(labels))
    print(f"{count:3} classes: {kept} keep their number; 0, 1, 2, ... become {labels[:12]}")
    if count == 10:
        assert labels == list(range(10)), labels
    else:
        names = sorted(map(str, range(count)))
        assert labels == [names.index(str(old)) for old in range(count)], labels
assert kept == 12, kept
assert encoded(11)[10] == 2

both = DatasetDict(
    train=Dataset.from_dict({"label": ["cat", "dog", "frog"]}),
    test=Dataset.from_dict({"label": ["dog", "frog"]}),
)
labels = {split: part["label"][:] for split, part in both.class_encode_column("label").items()}
print("train: cat, dog and frog become", labels["train"])
print("test:  dog and frog become", labels["test"])
assert labels == {"train": [0, 1, 2], "test": [0, 1]}, labels
PYTHON
