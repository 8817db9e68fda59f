#!/usr/bin/env bash
# Evaluating with APGD or FAB of torchattacks gives the epochs of the training the same order.
#
# Expected: an attack leaves torch's global random numbers alone, or takes some of them; its `seed`,
#           "random seed for the starting point", is the attack's own.
# Happens:  APGD, APGDT, Square and FAB seed the global generator, with 0 by default, at each call.
#           After FAB, a shuffled DataLoader has the same order in each epoch and each run, whatever
#           its seed. After APGD, the order depends only on how many images of the last batch were
#           classified correctly: once all are, it stays the same. PGD does not do it. pyautoattack,
#           by AutoAttack's authors, seeds it from the clock if given no seed, so that equal runs
#           differ.
# Versions: torchattacks 3.5.1, pyautoattack 0.2.0, torch 2.14.1.
# Matters:  measuring robust accuracy after each epoch changes the training that it measures: order
#           and dropout masks repeat, and runs with different seeds are not independent.
# Our code: runs pyautoattack with a seed inside `torch.random.fork_rng`, which restores the state
#           (`_measured` in unlearnable_bench/running/autoattack.py), and does not use torchattacks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 torchattacks==3.5.1 pyautoattack==0.2.0 numpy==2.4.6 scipy==1.17.1

"$folder/venv/bin/python" - <<'PYTHON'
import logging
import time
from importlib.metadata import version

import pyautoattack
import torch
import torchattacks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

for package in ("torch", "torchattacks", "pyautoattack"):
    print(package, version(package))
logging.disable(logging.CRITICAL)
torch.set_num_threads(1)
EPOCHS = 4
CENTRES = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def images(count: int) -> TensorDataset:
    """Return noisy images of ten classes."""
    classes = torch.arange(count) % 10
    noise = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(count))
    return TensorDataset((CENTRES[classes] + 0.1 * noise).clamp(0, 1), classes)


TRAIN, TEST = images(1000), DataLoader(images(144), batch_size=128)


def trained(attack: str, seed: int) -> list[tuple[int, tuple[int, ...]]]:
    """Train, and attack after each epoch.

    Return, for each epoch but the first, how many images of the last test batch were classified
    correctly before it, and its order.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10))
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(range(len(TRAIN)), batch_size=50, shuffle=True)
    order, correct, found = [], -1, []
    for _ in range(EPOCHS):
        order = []
        for batch in loader:
            x, y = TRAIN[batch]
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
            order += batch.tolist()
        found.append((correct, tuple(order)))
        for x, y in TEST:
            getattr(torchattacks, attack)(model)(x, y)
            correct = int((model(x).argmax(1) == y).sum())
    return found[1:]


for name in ("PGD", "APGD", "FAB"):
    runs = {seed: trained(name, seed) for seed in (1, 2)}
    for seed, epochs in runs.items():
        shown = ", ".join(f"{order[:5]} after {correct}/16" for correct, order in epochs)
        print(f"{name:4} seed {seed}: {shown}")
    whole = [epoch for epochs in runs.values() for epoch in epochs]
    orders, counts = {order for _, order in whole}, {correct for correct, _ in whole}
    print(f"{name:4} {len(whole)} epochs, {len(counts)} numbers correct, {len(orders)} orders")
    if name == "PGD":
        assert len(orders) == len(whole)
    elif name == "FAB":
        assert len(orders) == 1
    else:
        assert len(set(whole)) == len(counts) < len(whole)

after = []
for _ in range(2):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 10)).eval()
    attack = pyautoattack.AutoAttack(model, eps=8 / 255)
    attack.run_standard_evaluation(*images(20).tensors)
    after.append(torch.rand(1).item())
    assert 0 <= time.time() - torch.initial_seed() < 600  # it was 0
    time.sleep(1.1)
print("after manual_seed(0) and pyautoattack:", *after)
assert after[0] != after[1]
PYTHON
