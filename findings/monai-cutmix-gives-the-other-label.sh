#!/usr/bin/env bash
# CutMix of MONAI gives each image the whole label of the image that its patch comes from.
#
# Expected: an image of class A with a patch of class B gets both labels, each with its share of the
#           pixels, as in the paper that the documentation names.
# Happens:  one-hot labels go through the same cutting as pixels, and without rows and columns the cut
#           is everything: the label is B alone, although A has most of the pixels. `apply_on_labels`
#           of the same object mixes them, but nothing calls it. Maps of labels (segmentation) are cut
#           like the image. In addition the corner of the patch is drawn once for the whole batch, and
#           what exceeds the border is lost: the patch has 18 % of the pixels on average, where half
#           was drawn.
# Versions: MONAI 1.6.1, torch 2.14.1. 1.3.2 mixes the labels; the open issue 8137 is about maps only.
# Matters:  CutMix is a standard defense against unlearnable examples. This one trains on labels that
#           82 % of the pixels contradict, and its low accuracy looks like a strong poison.
# Our code: has its own CutMix, whose targets have the shares of pixels (defenses/cutmix.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 monai==1.6.1

"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import monai
import torch
from monai.transforms import CutMix

print("MONAI", monai.__version__, "torch", torch.__version__)
BATCH, BATCHES = 64, 200
classes = torch.arange(BATCH)  # each image has a class of its own, and its number in each pixel
images = classes.float().view(BATCH, 1, 1, 1).expand(BATCH, 3, 32, 32)
labels = torch.eye(BATCH)
mix = CutMix(batch_size=BATCH, alpha=1.0)
mix.set_random_state(0)

pixels, own, stated = [], [], []
for number in range(BATCHES):
    mixed, targets = mix(images, labels)
    share = (mixed == images).float().mean((1, 2, 3))  # of the pixels that are the image's own
    partner = torch.as_tensor(mix._params[1])
    other = partner != classes
    assert torch.equal(targets, labels[partner])
    pixels.append(share[other])
    own.append(targets[classes, classes][other])
    stated.append(mix.apply_on_labels(labels)[classes, classes][other])
    if number == 0:
        for i in range(4):
            print(
                f"image {i} with a patch of image {partner[i]}: {share[i]:.0%} of the pixels are its "
                f"own, its class has the label {own[-1][i]:.2f}, apply_on_labels {stated[-1][i]:.2f}"
            )
share, label, paper = (torch.cat(values) for values in (pixels, own, stated))
print(f"{len(share)} images: {share.mean():.0%} of the pixels are the image's own", end="; ")
print(f"its class has a label of {label.mean():.2f} on average, apply_on_labels {paper.mean():.2f}")
assert label.max() == 0 and 0.8 < share.mean() < 0.9 and 0.48 < paper.mean() < 0.52

maps = images[:, :1].contiguous()
mixed, cut = mix(images, maps)
assert torch.equal(mixed[:, :1], cut)
print("maps of labels are cut like the image")
PYTHON
