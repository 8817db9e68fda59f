"""The training and the test part of a folder of images."""

import shlex
from pathlib import Path

import numpy as np

from unlearnable_bench.datasets.inventory import ENDINGS
from unlearnable_bench.errors import UserError

# What others call the two parts.
_OTHER_NAMES = {
    "train": ("training", "Train", "Training", "images_train"),
    "test": ("val", "valid", "validation", "Test", "testing", "Val", "dev"),
}
_SHARE = "--set folder.test_share=0.2"


def check_parts(root: Path) -> None:
    """Refuse a folder without train/ or test/, with the step that its content calls for.

    Raises:
        UserError: a part is missing, or is a list of files (`metadata.csv`).
    """
    for part, others in _OTHER_NAMES.items():
        if (root / part).is_dir():
            listed = next((root / part).glob("metadata.*"), None)
            if listed and not any(path.is_dir() for path in (root / part).iterdir()):
                raise UserError(
                    f"folder:{root} has its labels in {listed.relative_to(root)}; write hf:{root}"
                )
            continue
        other = next((root / name for name in others if (root / name).is_dir()), None)
        if other:
            raise UserError(
                f"folder:{root}: no folder {root / part} but {other.name}/; rename it: "
                f"mv {shlex.quote(str(other))} {shlex.quote(str(root / part))}"
            )
        raise UserError(f"folder:{root}: no folder {root / part}; {_step(root, part)}")


def _step(root: Path, part: str) -> str:
    """Return what to do about a folder that lacks a part."""
    usual = "images go to train/CLASS/ and test/CLASS/"
    if part == "test":
        return f"{usual}; to take test images from train/: {_SHARE}"
    inside = [*root.iterdir()] if root.is_dir() else []
    if any(path.suffix in (".tar", ".tgz") for path in inside):
        return f"tar shards are read by webdataset:{root}"
    if any(".tfrecord" in path.name for path in inside):
        return f"TFRecords are read by tfds:{root}"
    folders = [path for path in inside if path.is_dir()]
    if any(path.suffix.lower() in ENDINGS for own in folders for path in own.iterdir()):
        return f"if its folders are classes, take a part of each as test images: {_SHARE}"
    return usual


def one_part(root: Path) -> Path:
    """Return the folder whose classes are divided: train/, or the folder itself.

    Raises:
        UserError: the folder is missing, or has test images of its own.
    """
    if not root.is_dir():
        raise UserError(f"folder:{root}: no such folder; images go to {root}/CLASS/")
    train, test = root / "train", root / "test"
    if train.is_dir() and test.is_dir():
        raise UserError(
            f"folder:{root} has test images in {test}; leave out folder.test_share, or move them"
        )
    return train if train.is_dir() else root


def divided(
    files: dict[str, list[Path]], share: float
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Divide the files of each class at random into training and test files.

    The division depends on the number of files and on their order only. A class of two files or
    more has one in each part at least; a single file is for training.

    Args:
        files: the files of each class.
        share: share of the test files, above 0 and below 1.

    Raises:
        UserError: a share out of range, or no class of two files.
    """
    if not 0 < share < 1:
        raise UserError(f"folder.test_share={share:g}; allowed: above 0 and below 1, such as 0.2")
    random = np.random.default_rng(0)
    train: dict[str, list[Path]] = {}
    test: dict[str, list[Path]] = {}
    for name, own in files.items():
        count = min(max(1, round(share * len(own))), len(own) - 1) if own else 0
        chosen = {*random.permutation(len(own))[:count].tolist()}
        train[name] = [file for k, file in enumerate(own) if k not in chosen]
        test[name] = [file for k, file in enumerate(own) if k in chosen]
    if files and not any(test.values()):
        raise UserError(
            "folder.test_share needs a class of two images or more; the largest class has "
            f"{max(map(len, files.values()))}"
        )
    return train, test
