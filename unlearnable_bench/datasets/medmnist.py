"""The .npz files of MedMNIST: other keys, grey images, and labels [N, 1]."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.datasets.notices import notice
from unlearnable_bench.errors import UserError

_NAMES = {
    "x_train": "train_images",
    "y_train": "train_labels",
    "x_test": "test_images",
    "y_test": "test_labels",
}
_UNUSED = "val_labels"


def is_medmnist(keys: Collection[str]) -> bool:
    """Return whether these are the keys of a MedMNIST file."""
    return {*_NAMES.values()} <= {*keys}


def read_medmnist(
    read: Callable[[str], NDArray[Any]], keys: Collection[str], name: str, path: Path
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a MedMNIST file under the keys of an npz data set.

    Grey images are repeated in three channels. The files have no class names, so these are the
    labels. Validation images are left out, and a line says so.

    Args:
        read: returns the array of a key.
        keys: the keys of the file.
        name: name of the data set, for messages.
        path: the file, for messages.

    Raises:
        UserError: volumes, or several labels per image.
    """
    arrays = {key: read(own) for key, own in _NAMES.items()}
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        what = f"{path}: {_NAMES[f'x_{part}']}"
        if images.ndim == 3:
            arrays[f"x_{part}"] = np.repeat(images[..., None], 3, axis=3)
        elif images.ndim != 4 or images.shape[3] != 3:
            raise UserError(
                f"{what} are {list(images.shape)}; allowed: [N, H, W] or [N, H, W, 3], the 2D sets "
                "of MedMNIST"
            )
        if labels.ndim == 2 and labels.shape[1] > 1:
            raise UserError(
                f"{path}: {_NAMES[f'y_{part}']} are {list(labels.shape)}, {labels.shape[1]} labels "
                "per image; allowed: one label, as in all 2D sets of MedMNIST but ChestMNIST"
            )
        arrays[f"y_{part}"] = labels.reshape(-1)
    if _UNUSED in keys:
        notice(f"{name}: left out {len(read(_UNUSED))} validation images")
    if "class_names" in keys:
        return arrays | {"class_names": read("class_names")}
    largest = max(int(arrays[f"y_{part}"].max(initial=0)) for part in ("train", "test"))
    return arrays | {"class_names": np.arange(largest + 1).astype(str)}
