"""Tiny-ImageNet."""

from dataclasses import dataclass
from pathlib import Path

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets.decoding import read_picture
from unlearnable_bench.datasets.inventory import Inventory
from unlearnable_bench.datasets.pictures import Split, class_folders, decoded
from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Data, Transform
from unlearnable_bench.options import option

_COUNTS = (100_000, 10_000, 200)  # training images, test images, classes
_SIZE = 64
_ANNOTATIONS = "val_annotations.txt"


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(Dataset):
    """Tiny-ImageNet from a folder: tiny-imagenet:DIR with train/ and val/; 200 classes, 64 px."""

    path: str = option("", "path of the unpacked folder, tiny-imagenet-200")

    def load(self) -> Data:
        """Read the training images, and the validation images as test images.

        Raises:
            UserError: the folder is not an unpacked Tiny-ImageNet.
        """
        root = Path(self.path)
        inventory = Inventory("tiny-imagenet", root)
        names = class_folders(inventory, root / "train")
        files = [inventory.pictures(root / "train" / name / "images") for name in names]
        train = Split(
            [file for own in files for file in own],
            [label for label, own in enumerate(files) for _ in own],
            _SIZE,
            read_picture,
        )
        test = self._validation(inventory, root / "val", names)
        counts = (len(train.files), len(test.files), len(names))
        if counts != _COUNTS:
            words = "{} training images, {} test images, {} classes"
            raise UserError(
                f"{root} is not Tiny-ImageNet: it has {words.format(*counts)}, not "
                f"{words.format(*_COUNTS)}; unpack it again, or use folder:DIR for other data"
            )
        inventory.report()
        transform = Transform(_SIZE // 8, flip=True)
        return decoded("tiny-imagenet", root, (train, test), tuple(names), transform)

    def _validation(self, inventory: Inventory, folder: Path, names: list[str]) -> Split:
        """Read the annotations, whose lines are file name, class and an unused bounding box.

        Many users have moved the images to val/WNID/ or val/WNID/images/. They are read in the
        order of the numbers in their names, which is that of the annotations.
        """
        annotations = folder / _ANNOTATIONS
        if any((folder / name).is_dir() for name in names):
            moved = [
                (file, label)
                for label, name in enumerate(names)
                for file in inventory.pictures(_images(folder / name))
            ]
            moved.sort(key=lambda one: (_number(one[0]), one[0].name))
            return Split([f for f, _ in moved], [k for _, k in moved], _SIZE, read_picture)
        if not annotations.is_file():
            raise UserError(
                f"no file {annotations}; write --dataset tiny-imagenet:DIR with the unpacked "
                "folder tiny-imagenet-200"
            )
        label_of = {name: label for label, name in enumerate(names)}
        files, labels = [], []
        text = annotations.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            file, _, rest = line.partition("\t")
            name = rest.partition("\t")[0]
            path = folder / "images" / file
            if name not in label_of or not path.is_file():
                fault = f"no file {path}" if name in label_of else f"no class {name!r}"
                raise UserError(f"{annotations}, line {number}: {fault}; unpack it again")
            files.append(path)
            labels.append(label_of[name])
        return Split(files, labels, _SIZE, read_picture)


def _images(folder: Path) -> Path:
    """Return the folder `images` of a class, if it has one."""
    return folder / "images" if (folder / "images").is_dir() else folder


def _number(file: Path) -> int:
    """Return the number in `val_123.JPEG`, and 0 if there is none."""
    digits = file.stem.rpartition("_")[2]
    return int(digits) if digits.isascii() and digits.isdecimal() else 0
