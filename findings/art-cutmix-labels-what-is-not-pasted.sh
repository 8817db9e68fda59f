#!/usr/bin/env bash
# CutMix of ART gives the pasted class a label by the area before the patch is cut off at the border.
#
# Expected: the label of the pasted class is the share of its pixels in the image, as in the authors'
#           code, torchvision and timm.
# Happens:  the centre of the patch is anywhere, and what exceeds the image is lost, but the label stays
#           what was drawn. On average 29 % of the pixels are pasted and labelled with 48 %; in a third
#           of the images the label differs from the pixels by more than 0.25, and in 38 % most of the
#           pixels have one class and most of the label the other. torchvision's label is exact.
# Versions: adversarial-robustness-toolbox 1.20.1, torchvision 0.29.1, torch 2.14.1.
# Matters:  CutMix is a standard defense against unlearnable examples, and the error is strong label
#           noise. The same alpha is not the same defense in the two libraries.
# Our code: has its own CutMix, which mixes the targets by the area after clipping (defenses/cutmix.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 adversarial-robustness-toolbox==1.20.1 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 packaging==26.4

"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import art
import numpy as np
import torch
import torchvision
from art.defences.preprocessor import CutMixPyTorch
from torchvision.transforms import v2

print("ART", art.__version__, "torchvision", torchvision.__version__, "torch", torch.__version__)
np.random.seed(0)
torch.manual_seed(0)
torch.set_num_threads(1)
BATCH, BATCHES = 64, 200
classes = torch.arange(BATCH)  # each image has a class of its own, and its number in each pixel
images = classes.float().view(BATCH, 1, 1, 1).expand(BATCH, 3, 32, 32).contiguous()
mixes = {
    "ART": CutMixPyTorch(BATCH, alpha=1.0, probability=1.0, channels_first=True, device_type="cpu"),
    "torchvision": v2.CutMix(num_classes=BATCH, alpha=1.0),
}
for name, mix in mixes.items():
    pasted, labelled = [], []
    for _ in range(BATCHES):
        if name == "ART":
            mixed, targets = map(torch.from_numpy, mix(images.numpy(), classes.numpy()))
        else:
            mixed, targets = mix(images, classes)
        pasted.append((mixed != images).float().mean((1, 2, 3)))
        labelled.append(1 - targets[classes, classes])
    pixels, label = torch.cat(pasted), torch.cat(labelled)
    far = ((pixels - label).abs() > 0.25).float().mean().item()
    other = ((pixels > 0.5) != (label > 0.5)).float().mean().item()
    print(f"{name:11} pasted {pixels.mean():.1%} of the pixels, labelled {label.mean():.1%}", end="; ")
    print(f"{far:.0%} differ by more than 0.25, {other:.0%} have another majority")
    if name == "ART":
        assert label.mean() - pixels.mean() > 0.15 and far > 0.25 and other > 0.25
    else:
        assert (pixels - label).abs().max() < 1e-5
PYTHON
