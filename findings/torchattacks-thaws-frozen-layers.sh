#!/usr/bin/env bash
# An attack of torchattacks puts frozen layers back into training mode.
#
# Expected: an attack changes the model to evaluation mode for its duration, as documented, and leaves
#           it as it was.
# Happens:  it remembers one flag, that of the whole model, and calls `train()` for all layers after the
#           attack. Batch normalisation that was frozen with `eval()` updates its statistics again in
#           the rest of the epoch, and a frozen feature extractor is no longer the one that was loaded.
#           One attack suffices; the parameters stay, since `requires_grad` is another flag.
# Versions: torchattacks 3.5.1, torch 2.14.1.
# Matters:  adversarial training or evaluation during the training of a probe of frozen features moves
#           the encoder that the probe should measure. Only runs with an attack do this, so that they
#           differ from those without by more than the attack.
# Our code: restores the mode of each layer (`frozen` in unlearnable_bench/harness/gradient.py), and
#           does not use torchattacks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 torchattacks==3.5.1 numpy==2.4.6 scipy==1.17.1

"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import torch
import torchattacks
from torch import nn

print("torchattacks", version("torchattacks"), "torch", version("torch"))
torch.set_num_threads(1)
ATTACKS = ("FGSM", "PGD", "PGDL2", "CW")


def probe(attack: str | None) -> tuple[bool, float, float]:
    """Train a classifier on frozen features, with at most one attack before it.

    Return whether the frozen normalisation is in training mode in the end, how far its statistics
    went, and how far the features of the same images went, as a share of their norm.
    """
    torch.manual_seed(0)
    x, y = torch.rand(64, 3, 16, 16), torch.arange(64) % 10
    encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=1), nn.ReLU(), nn.Flatten())
    head = nn.Linear(8 * 14 * 14, 10)
    model = nn.Sequential(encoder, head)
    encoder(torch.rand(640, 3, 16, 16) ** 2)  # the statistics of other images
    encoder[1].momentum = 0.1
    model.train()
    encoder.eval().requires_grad_(False)
    before, features = encoder[1].running_mean.clone(), encoder(x)
    if attack is not None:
        getattr(torchattacks, attack)(model)(x, y)
    optimiser = torch.optim.SGD(head.parameters(), 0.01)
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    training = encoder[1].training
    moved = (encoder[1].running_mean - before).norm().item()
    share = (encoder.eval()(x) - features).norm() / features.norm()
    return training, moved, share.item()


for attack in (None, *ATTACKS):
    training, moved, share = probe(attack)
    print(
        f"{attack or 'no attack':9} frozen BatchNorm in training mode: {training!s:5} "
        f"statistics moved by {moved:.3f}, features of the same images by {share:.0%}"
    )
    if attack is None:
        assert not training and moved == 0 and share == 0
    else:
        assert training and moved > 0.1 and share > 0.1
PYTHON
