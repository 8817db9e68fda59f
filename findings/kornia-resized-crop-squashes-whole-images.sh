#!/usr/bin/env bash
# Until kornia 0.9, RandomResizedCrop with scale=(1, 1) squashes the middle 3/4 of every image.
#
# Expected: a box of the whole area is the whole image, as with torchvision, and boxes of 90 to 100 %
#           of the area cover about that.
# Happens:  kornia 0.8.3 takes no box with a whole side. If ten draws give no other, its fallback for
#           square images is a box of 32 x 24 pixels, which is stretched to a square: each image with
#           scale=(1, 1), two in five with scale=(0.9, 1). Of an image that is higher than wide, the
#           fallback covers less than torchvision's (24 instead of 43 rows). kornia 0.9.0 does what
#           torchvision does.
# Versions: kornia 0.8.3 and 0.9.0, torch 2.14.1, torchvision 0.29.1.
# Matters:  AUE and AAP make noise through this crop, with boxes whose smallest area falls with a
#           strength. At low strengths their images are distorted, and with another version of kornia
#           the same seeds and options make another noise.
# Our code: draws boxes as torchvision does (unlearnable_bench/harness/resized_crop.py), and says so in
#           docs/methods.md.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 packaging==26.4 kornia_rs==0.2.0

for version in 0.8.3 0.9.0; do
  "$folder/venv/bin/pip" install --quiet --no-compile --no-deps "kornia==$version"
  "$folder/venv/bin/python" -W ignore - "$version" <<'PYTHON'
import sys

import kornia
import torch
from kornia.augmentation import RandomResizedCrop
from torchvision.transforms import v2

assert kornia.__version__ == sys.argv[1]
print("kornia", kornia.__version__)
squashes = kornia.__version__ == "0.8.3"
torch.manual_seed(0)


def boxes(scale, height=32):
    """Return the heights and widths of kornia's boxes in 1,000 images that are 32 px wide."""
    crop = RandomResizedCrop((32, 32), scale=scale)
    crop(torch.rand(1000, 3, height, 32))
    corners = crop._params["src"]  # top left, top right, bottom right, bottom left
    return corners[:, 3, 1] - corners[:, 0, 1] + 1, corners[:, 1, 0] - corners[:, 0, 0] + 1


def areas(scale):
    high, wide = boxes(scale)
    area = high * wide / 32**2
    print(f"  scale={scale}: area {area.min():.2f} to {area.max():.2f}, {area.mean():.2f} on average")
    return area


image = torch.rand(4, 3, 32, 32)
whole = v2.RandomResizedCrop(32, scale=(1, 1))(image)
assert torch.equal(whole, image)
same = (RandomResizedCrop((32, 32), scale=(1, 1))(image) - image).abs().max() < 1e-4
assert bool(same) is not squashes

assert (areas((1, 1)) == (0.75 if squashes else 1)).all()
area = areas((0.9, 1.0))
share = (area == 0.75).float().mean().item()
print(f"  of these, {100 * share:.0f} % have 0.75")
assert 0.35 < share < 0.45 if squashes else area.min() > 0.85
rows = boxes((1, 1), height=128)[0].unique().tolist()
print("  rows of boxes in images of 128 x 32 pixels:", rows)
assert rows == ([24] if squashes else [43])
PYTHON
done
