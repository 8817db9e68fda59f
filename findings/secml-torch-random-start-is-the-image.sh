#!/usr/bin/env bash
# The random start of secml-torch's own PGD is the image itself, and its L1 steps change one image.
#
# Expected: `random_start` begins at a random point of the ball around each image, n steps are n steps,
#           and an image is attacked in the same way whatever else is in its batch.
# Happens:  the noise is added to the image, and this sum is cut to the ball and taken for the
#           perturbation. For Linf, all values above 2 epsilon start at +epsilon, with any seed; for L2
#           the start points from black to the image. The result of the last step is not looked at: one
#           step returns the clean images. The L1 step looks for the largest gradient in the whole
#           batch: of 256 images, it changes one, and alone each image is attacked.
# Versions: secml-torch 1.5 (`backend="native"`, the one that supports trackers), torch 2.14.1.
# Matters:  restarts find nothing new, and robust accuracy rises with the batch size (L1: from 86 to
#           96.5 %, which is the clean accuracy): a defense looks robust that is not.
# Our code: has its own PGD, which draws the start in the ball and steps by each image's own gradient
#           (`pgd` in unlearnable_bench/harness/gradient.py), and does not use secml-torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 secml-torch==1.5 numpy==2.4.6

"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import torch
from secmlt.adv.evasion.pgd import PGD
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from secmlt.optimization.initializer import RandomLpInitializer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

print("secml-torch", version("secml-torch"), "torch", version("torch"))
torch.manual_seed(0)
torch.set_num_threads(1)
COUNT = 256
y = torch.arange(COUNT) % 10
x = (0.45 + 0.1 * torch.rand(10, 3, 8, 8))[y].add(0.15 * torch.randn(COUNT, 3, 8, 8)).clamp(0, 1)
network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
optimiser = torch.optim.SGD(network.parameters(), 0.1)
for _ in range(500):
    optimiser.zero_grad()
    nn.functional.cross_entropy(network(x), y).backward()
    optimiser.step()
network.eval()
model = BasePyTorchClassifier(network)


def attacked(norm: str, epsilon: float, batch: int = COUNT, steps: int = 20) -> torch.Tensor:
    attack = PGD(norm, epsilon, steps, epsilon / 4, backend="native")
    loader = attack(model, DataLoader(TensorDataset(x, y), batch_size=batch))
    return torch.cat([images for images, _ in loader])


def accuracy(images: torch.Tensor) -> float:
    return (network(images).argmax(1) == y).float().mean().item()


for norm, epsilon in (("linf", 8 / 255), ("l2", 1.0)):
    starts = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        starts.append(RandomLpInitializer(epsilon, norm)(x).flatten(1))
    cosine = nn.functional.cosine_similarity
    between = cosine(*starts).mean().item()
    image = cosine(starts[0], x.flatten(1)).mean().item()
    full = (starts[0] > 0.999 * epsilon).float().mean().item()
    print(f"{norm:4} cosine of two starts {between:.3f}, of start and image {image:.3f}", end="")
    print(f"; {full:.0%} of the values at +epsilon")
    assert between > 0.95 and image > 0.75  # a random start has about 0

one, two = (attacked("linf", 8 / 255, steps=steps) for steps in (1, 2))
print("after 1 step, the largest change is", (one - x).abs().max().item(), end="; ")
print("after 2 steps", round((two - x).abs().max().item() * 255, 3), "/ 255")
assert torch.equal(one, x) and not torch.equal(two, x)

shares = {}
for batch in (1, 16, COUNT):
    images = attacked("l1", 2.0, batch)
    shares[batch] = (images != x).flatten(1).any(1).float().mean().item()
    print(f"L1, batches of {batch:3}: {shares[batch]:6.1%} of the images are changed", end="; ")
    print(f"accuracy {accuracy(images):.1%} (clean {accuracy(x):.1%})")
assert shares[1] > 0.95 and shares[16] < 0.2 and shares[COUNT] < 0.02
PYTHON
