#!/usr/bin/env bash
# In a DataLoader with workers, albumentations draws the same crops in each worker and each epoch.
#
# Expected: a pipeline without a seed gives each image of each epoch its own random crop, with workers
#           as without, as torchvision does.
# Happens:  the generator is made with the pipeline, and each worker starts from a copy of it. With two
#           workers, each crop comes twice within an epoch and again in each epoch, at the same
#           positions of the batches: 8 epochs of 128 images have 64 draws instead of 1,024.
#           `torch.manual_seed` does not change them. With `persistent_workers=True` the workers still
#           equal each other. In a loader that does not shuffle, an image has one view in all epochs.
#           The documentation of `seed` promises random results; AlbumentationsX, the successor, mended
#           it (its issue 266).
# Versions: albumentations 2.0.8 (the last one), torch 2.14.1.
# Matters:  augmentation is a standard defense against unlearnable examples, and methods average their
#           noise over random views in the order of the images: here over a single one. With 8 workers
#           and 60 epochs, training has 1/480 of the draws, and eight successive batches have the same.
# Our code: augments whole batches on the device from its own random stream
#           (unlearnable_bench/running), and does not use albumentations or workers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 torchvision==0.29.1 albumentations==2.0.8 opencv-python-headless==5.0.0.93 numpy==2.4.6 scipy==1.17.1

NO_ALBUMENTATIONS_UPDATE=1 "$folder/venv/bin/python" - <<'PYTHON'
import albumentations
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

print("albumentations", albumentations.__version__, "torch", torch.__version__)
torch.set_num_threads(1)
COUNT, BATCH, EPOCHS, SIDE, CROP = 128, 16, 8, 999, 32
POSITIONS = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE, 1)  # exact below 2**24


class Crops(Dataset):
    """The position of a random crop of each of COUNT images."""

    def __init__(self, library: str):
        if library == "albumentations":
            self.crop = albumentations.Compose([albumentations.RandomCrop(CROP, CROP)])
        else:
            self.crop = v2.RandomCrop(CROP)
        self.library = library

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> int:
        if self.library == "albumentations":
            return int(self.crop(image=POSITIONS)["image"].flat[0])
        return int(self.crop(torch.from_numpy(POSITIONS[..., 0])[None]).flatten()[0])


def epochs(library: str, workers: int, persistent: bool, shuffle: bool = True) -> np.ndarray:
    loader = DataLoader(
        Crops(library), BATCH, shuffle, num_workers=workers, persistent_workers=persistent
    )
    found = []
    for epoch in range(EPOCHS):
        torch.manual_seed(epoch)
        found.append(np.concatenate([batch.numpy() for batch in loader]))
    return np.stack(found)


different = {}
for library in ("torchvision", "albumentations"):
    for workers, persistent in ((0, False), (2, False), (2, True)):
        crops = epochs(library, workers, persistent)
        different[library, workers, persistent] = len(np.unique(crops))
        equal = (crops[0] == crops[1]).mean()
        print(
            f"{library:14} {workers} workers{', persistent' if persistent else ''}: of {crops.size} "
            f"crops {len(np.unique(crops))} are different; epochs 1 and 2 have {equal:.0%} in common"
        )
views = {}
for library in ("torchvision", "albumentations"):
    crops = epochs(library, 2, persistent=False, shuffle=False)
    views[library] = np.mean([len(np.unique(image)) for image in crops.T])
    print(f"{library:14} not shuffled, 2 workers: {views[library]:.2f} views of an image in 8 epochs")
assert views["torchvision"] > 7.9 and views["albumentations"] == 1
assert all(different["torchvision", *how] > 1015 for how in ((0, False), (2, False), (2, True)))
assert different["albumentations", 0, False] > 1015
assert different["albumentations", 2, False] <= COUNT // 2
assert 505 < different["albumentations", 2, True] <= COUNT * EPOCHS // 2
PYTHON
