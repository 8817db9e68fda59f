#!/usr/bin/env bash
# Gaussian noise of torchvision is weaker for uint8 images than for float images.
#
# Expected: GaussianNoise with sigma = s/255 has a standard deviation of s levels for uint8 and for
#           floats; the documentation says that parameters have the same scale for both.
# Happens:  for uint8, the noise of each value is cut off towards zero before it is added. The standard
#           deviation is 0.69 instead of 1 level, 1.6 instead of 2 and 7.6 instead of 8, and 68 % of the
#           values stay unchanged where rounded floats have 38 %. At a quarter of a level,
#           almost nothing changes.
# Versions: torchvision 0.29.1, torch 2.14.1.
# Matters:  Gaussian noise is a defense against poisons and the control for their noise ("as strong as
#           the poison, but random"). By the type of the images, the same sigma is another strength.
# Our code: adds its own noise to floats (defenses/gaussian_noise.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 numpy==2.4.6

"$folder/venv/bin/python" -W error - <<'PYTHON'
import torch
import torchvision
from torchvision.transforms import v2

print("torchvision", torchvision.__version__, "torch", torch.__version__)
torch.manual_seed(0)
torch.set_num_threads(1)
grey = torch.full((256, 3, 32, 32), 128, dtype=torch.uint8)
found = {}
for levels in (0.25, 1, 2, 8):
    noise = v2.GaussianNoise(sigma=levels / 255)
    whole = noise(grey).float() - 128
    floats = 255 * noise(grey / 255) - 128
    found[levels] = whole.std().item()
    print(
        f"sigma = {levels}/255: uint8 {found[levels]:.2f} levels, floats {floats.std():.2f}, rounded "
        f"{floats.round().std():.2f}; unchanged {(whole == 0).float().mean():.0%} of the values, "
        f"rounded {(floats.round() == 0).float().mean():.0%}"
    )
    assert abs(floats.std() / levels - 1) < 0.01
    assert (whole == 0).float().mean() > 1.5 * (floats.round() == 0).float().mean() or levels < 1
assert found[0.25] < 0.02 and found[1] < 0.75 and found[2] < 1.75 and found[8] < 7.7
PYTHON
