"""Data from a folder of image files."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets.decoding import read_picture
from unlearnable_bench.datasets.inventory import Inventory
from unlearnable_bench.errors import UserError
from unlearnable_bench.file_kinds import folder_kind_of
from unlearnable_bench.images import Data, ImageSet, Pixels, Transform
from unlearnable_bench.options import option

# What others call the two parts.
_OTHER_NAMES = {
    "train": ("training", "Train", "Training", "images_train"),
    "test": ("val", "valid", "validation", "Test", "testing", "Val", "dev"),
}


@dataclass(frozen=True, kw_only=True)
class Folder(Dataset):
    """Image files: folder:DIR with train/CLASS/*.png and test/CLASS/*.png."""

    path: str = option("", "path of the folder")
    size: int | None = option(
        None,
        "height and width in pixels to which images are resized; none: not resized",
        minimum=1,
    )
    pad: int | None = option(
        None, "largest shift of the random crop in pixels; none: size / 8", minimum=0
    )
    flip: bool = option(True, "horizontal flips of training images, at random")

    def load(self) -> Data:
        """Read every image, in the order of class and file name.

        Raises:
            UserError: a missing folder, an unreadable image, or images of different sizes.
        """
        root = Path(self.path)
        kind = folder_kind_of(root)
        if kind:
            raise UserError(f"folder:{root} {kind}")
        for split, others in _OTHER_NAMES.items():
            if not (root / split).is_dir():
                other = next((root / name for name in others if (root / name).is_dir()), None)
                how = (
                    f"rename it: mv {shlex.quote(str(other))} {shlex.quote(str(root / split))}"
                    if other
                    else "images go to train/CLASS/ and test/CLASS/"
                )
                has = f" but {other.name}/" if other else ""
                raise UserError(f"folder:{root}: no folder {root / split}{has}; {how}")
        inventory = Inventory(f"folder:{root.name}", root)
        beside = [path for path in inventory.folders(root) if path.name not in ("train", "test")]
        inventory.leave_out(
            "folder other than train, test", "folders other than train, test", beside
        )
        train_files = self._files(inventory, root / "train")
        test_files = self._files(inventory, root / "test")
        names = tuple(name for name, files in train_files.items() if files)
        if not names:
            raise UserError(f"{root / 'train'} has no images; they go to train/CLASS/*.png")
        if len(names) < 2:
            raise UserError(
                f"{root / 'train'} has {len(names)} class folders with images, allowed: two or "
                "more; images go to train/CLASS/"
            )
        unknown = [name for name, files in test_files.items() if files and name not in names]
        if unknown:
            raise UserError(
                f"{root / 'test'} has classes of which train has no images: {unknown}; remove or "
                "rename their folders"
            )
        for split, found in (("train", train_files), ("test", test_files)):
            empty = [root / split / name for name, files in found.items() if not files]
            inventory.leave_out(
                "class folder without images", "class folders without images", empty
            )
        train = self._split(root / "train", [train_files[name] for name in names])
        test = self._split(root / "test", [test_files.get(name, []) for name in names])
        inventory.report(missing=[name for name in names if not test_files.get(name)])
        pad = train.size // 8 if self.pad is None else self.pad
        return Data(f"folder:{root.name}", train, test, names, Transform(pad, self.flip))

    def _files(self, inventory: Inventory, folder: Path) -> dict[str, list[Path]]:
        return {name: inventory.pictures(folder / name) for name in inventory.classes(folder)}

    def _split(self, root: Path, classes: list[list[Path]]) -> ImageSet:
        images: list[Pixels] = []
        labels: list[int] = []
        for label, files in enumerate(classes):
            for file in files:
                images.append(read_picture(file, self.size))
                labels.append(label)
                if images[-1].shape != images[0].shape:
                    height, width = images[-1].shape[:2]
                    raise UserError(
                        f"{file} is {width}x{height}, the first image is not; resize all of them: "
                        "--set folder.size=64"
                    )
        if not images:
            raise UserError(f"{root} has no images; they go to {root}/CLASS/*.png")
        height, width = images[0].shape[:2]
        if height != width:
            raise UserError(
                f"{root} has images of {width}x{height}, not square ones; resize all of them: "
                "--set folder.size=64"
            )
        names = tuple(file.relative_to(root).as_posix() for files in classes for file in files)
        return ImageSet(np.stack(images), np.array(labels, np.int64), len(classes), names)
