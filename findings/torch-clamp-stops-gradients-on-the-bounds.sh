#!/usr/bin/env bash
# Since torch 2.14, clamp(0, 1) gives black and white pixels no gradient, so they are never poisoned.
#
# Expected: as for years, `clamp` passes the gradient of values that are exactly on a bound. The 8-bit
#           values 0 and 255 are on the bounds of [0, 1].
# Happens:  up to 2.13 the gradient there is 1. In 2.14 it is 0 for bounds given as numbers, and 1/2
#           for the same bounds given as tensors. Sign steps on noise that starts at 0, through
#           clamp(x + noise, 0, 1), move all values of a black and white image in 2.13 and none in
#           2.14. torchvision's and kornia's changes of colour end in such a clamp.
# Versions: torch 2.13.0 and 2.14.1.
# Matters:  code of attacks and defenses that differentiates through a clamp, written for older
#           versions, silently leaves these values out: 1.2 % of those of CIFAR-10, and each value that
#           earlier steps have pushed to a bound. Results differ between versions of torch.
# Our code: `clamp_unit` (unlearnable_bench/harness/gradient.py) passes the gradient in all versions;
#           it is used where a gradient flows through a clamp of images (`aue`, `aap` and `tue` did
#           not), and `rem`, `sem`, `asr` and `tap` compute the derivative themselves.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for version in 2.13.0 2.14.1; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet --no-compile "torch==$version" numpy==2.4.6
  "$folder/$version/bin/python" - "$version" <<'PYTHON'
import sys

import torch

print("torch", torch.__version__)
assert torch.__version__.startswith(sys.argv[1])
passes = sys.argv[1] == "2.13.0"


def slopes(function):
    """Return the gradient at values below, on and between the bounds 0 and 1, and above."""
    x = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    return torch.autograd.grad(function(x).sum(), x)[0].tolist()


low, high = torch.tensor(0.0), torch.tensor(1.0)
numbers, tensors = slopes(lambda x: x.clamp(0, 1)), slopes(lambda x: x.clamp(low, high))
print("gradient with bounds as numbers", numbers, "and as tensors", tensors)
assert numbers == ([0, 1, 1, 1, 0] if passes else [0, 0, 1, 0, 0])
assert tensors == ([0, 1, 1, 1, 0] if passes else [0, 0.5, 1, 0.5, 0])

torch.manual_seed(0)
image = torch.randint(2, (1, 3, 32, 32)).float()  # black and white
network = torch.nn.Conv2d(3, 1, 32)
noise = torch.zeros_like(image)
for _ in range(10):
    noise.requires_grad_()
    loss = network((image + noise).clamp(0, 1)).sum()
    step = torch.autograd.grad(loss, noise)[0].sign() / 255
    noise = (noise - step).detach().clamp(-8 / 255, 8 / 255)
moved = (noise != 0).float().mean().item()
print(f"values that moved in ten steps: {100 * moved:.0f} %")
assert moved == (1 if passes else 0)
PYTHON
  rm -rf "${folder:?}/$version"
done
