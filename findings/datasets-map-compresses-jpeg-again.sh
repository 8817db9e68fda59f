#!/usr/bin/env bash
# A map of Hugging Face's `datasets` that only looks at a JPEG picture compresses it again.
#
# Expected: `map` with a function that reads the size of the picture and returns it as a new column
#           leaves the pictures as they are.
# Happens:  a picture that was looked at is encoded again, even if the function does not return it:
#           in the format that it was read from, which is JPEG of Pillow's quality 75 with halved
#           colours, whatever the quality was. Its pixels change, in each further map, too. Noise that
#           is pasted into such a picture is compressed with it. Functions that do not touch the
#           picture, or get it by input_columns, keep its bytes; so does `filter`, and PNG loses
#           nothing. There is no warning.
# Versions: datasets 5.2.0, pillow 13.0.0. The pages of map and of Image do not mention it.
# Matters:  JPEG of quality 75 is a defence against this kind of noise. A map that counts pixels
#           applies it to data sets of JPEG pictures, such as ImageNet, clean ones included; a
#           poison that is added in place in a map is weakened before the training, and its pixels
#           leave the radius.
# Our code: has no `map` but in a test, over PNG: `hf:` reads the pictures once
#           (unlearnable_bench/datasets/hf.py), and `ubench export` writes PNG or arrays.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datasets==5.2.0 pillow==13.0.0 numpy==2.4.6

cd "$folder"
HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W error::UserWarning - <<'PYTHON'
from io import BytesIO

import datasets
import numpy as np
import PIL
from datasets import Dataset, Features
from PIL import Image

datasets.disable_progress_bars()
print("datasets", datasets.__version__, "pillow", PIL.__version__)

# A smooth picture with some texture of its own, and noise of +-8 of 255.
rng = np.random.default_rng(0)
y, x = np.mgrid[0:64, 0:64] / 64
waves = np.stack([np.sin(3 * x + k) * np.cos(2 * y - k) for k in range(3)], axis=-1)
pixels = np.clip(128 + 70 * waves + rng.normal(0, 6, (64, 64, 3)), 8, 247).astype(np.uint8)
noise = rng.choice([-8, 8], (64, 64, 3))


def data(kind: str, **options: int) -> Dataset:
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    rows = {"image": [{"bytes": file.getvalue(), "path": None}]}
    return Dataset.from_dict(rows, features=Features({"image": datasets.Image()}))


def array(made: Dataset) -> np.ndarray:
    return np.asarray(made[0]["image"]).astype(int)


def width(row):
    return {"width": row["image"].width}


def width_of_column(image):
    return {"width": image.width}


def untouched(row):
    row["width"] = 64
    return row


def adds_noise(row):
    noisy = np.clip(np.asarray(row["image"]).astype(int) + noise, 0, 255)
    row["image"].paste(Image.fromarray(noisy.astype(np.uint8)))
    return row


found = {}
for kind, options in (("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {})):
    made = data(kind, **options)
    before = array(made)
    for name, mapped in (
        ("width", made.map(width)),
        ("width by input_columns", made.map(width_of_column, input_columns=["image"])),
        ("untouched", made.map(untouched)),
    ):
        change = np.abs(array(mapped) - before)
        found[kind, name] = change.mean()
        size = f"{change.mean():.2f} on average, by up to {change.max()}"
        print(f"{kind:4}, {name}: pixels change by {size}")
    change = array(made.map(adds_noise)) - before
    kept, most = (change * noise).mean() / (noise**2).mean(), np.abs(change).max()
    found[kind, "kept"], found[kind, "most"] = kept, most
    print(f"{kind:4}, adds noise of +-8: {kept:.0%} of it is left, pixels change by up to {most}")

assert found["JPEG", "width"] > 2, found
assert found["JPEG", "width by input_columns"] == found["JPEG", "untouched"] == 0, found
assert found["PNG", "width"] == 0, found
assert found["JPEG", "kept"] < 0.5 and found["JPEG", "most"] > 16, found
assert found["PNG", "kept"] == 1 and found["PNG", "most"] == 8, found
PYTHON
