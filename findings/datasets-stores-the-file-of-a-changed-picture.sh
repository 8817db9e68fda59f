#!/usr/bin/env bash
# Hugging Face's `datasets` stores the file that a picture was opened from, not its changed pixels.
#
# Expected: a column of PIL images holds the pixels that they have when the data set is made.
# Happens:  a picture that PIL opened from a file keeps the name of that file when it is changed in
#           place (paste, putpixel, ImageDraw). `datasets` then stores the name and reads the file
#           again: the change is lost, and saving to Parquet embeds the clean file. So does a map over
#           a folder of pictures that changes them in place. A copy of the picture has no name, and
#           keeps the change. There is no warning.
# Versions: datasets 5.2.0, pillow 13.0.0. The page of Image lists PIL images among what it takes,
#           and says nothing of files.
# Matters:  noise, or the patch of a shortcut, that is pasted into opened pictures is missing from
#           the poisoned data set, and the poison seems to have no effect.
# Our code: makes no such column. `ubench export --to hf` encodes arrays of pixels as PNG itself and
#           writes the Parquet files without `datasets` (unlearnable_bench/exporting/parquet.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datasets==5.2.0 pillow==13.0.0 numpy==2.4.6

cd "$folder"
HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W error::UserWarning - <<'PYTHON'
from pathlib import Path

import datasets
import PIL
from datasets import Dataset, Features, load_dataset
from PIL import Image, ImageDraw

datasets.disable_progress_bars()
print("datasets", datasets.__version__, "pillow", PIL.__version__)
CLEAN, PATCH = (100, 100, 100), (255, 0, 0)
Path("pictures").mkdir()
Image.new("RGB", (8, 8), CLEAN).save("pictures/clean.png")


def opened() -> Image.Image:
    return Image.open("pictures/clean.png")


def pasted() -> Image.Image:
    picture = opened()
    picture.paste(PATCH, (0, 0, 4, 4))
    return picture


def drawn() -> Image.Image:
    picture = opened()
    ImageDraw.Draw(picture).rectangle((0, 0, 3, 3), fill=PATCH)
    return picture


def pixel_set() -> Image.Image:
    picture = opened()
    picture.putpixel((0, 0), PATCH)
    return picture


def copied() -> Image.Image:
    return pasted().copy()


for change in (pasted, drawn, pixel_set, copied):
    picture = change()
    assert picture.getpixel((0, 0)) == PATCH
    made = Dataset.from_dict({"image": [picture]}, features=Features({"image": datasets.Image()}))
    stored = made[0]["image"].getpixel((0, 0))
    made.to_parquet("made.parquet")
    read = Dataset.from_parquet("made.parquet", cache_dir=f"cache-{change.__name__}")
    written = read[0]["image"].getpixel((0, 0))
    print(f"{change.__name__:9}: pixel {PATCH}, in the data set {stored}, in Parquet {written}")
    wanted = PATCH if change is copied else CLEAN
    assert stored == written == wanted, (stored, written)


def paste_in_row(row):
    row["image"].paste(PATCH, (0, 0, 4, 4))
    return row


def paste_in_copy(row):
    picture = row["image"].copy()
    picture.paste(PATCH, (0, 0, 4, 4))
    return {"image": picture}


folder = load_dataset("imagefolder", data_dir="pictures", split="train")
for function, wanted in ((paste_in_row, CLEAN), (paste_in_copy, PATCH)):
    stored = folder.map(function)[0]["image"].getpixel((0, 0))
    print(f"map of a folder by {function.__name__}: pixel {stored}")
    assert stored == wanted, stored
PYTHON
