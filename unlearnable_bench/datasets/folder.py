"""Data from a folder of image files."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from unlearnable_bench.datasets.decoding import read_picture
from unlearnable_bench.datasets.inventory import Inventory
from unlearnable_bench.datasets.own import PictureDataset
from unlearnable_bench.datasets.parts import check_parts, divided, one_part
from unlearnable_bench.errors import UserError
from unlearnable_bench.file_kinds import folder_kind_of
from unlearnable_bench.images import Data, ImageSet, Pixels
from unlearnable_bench.options import option


@dataclass(frozen=True, kw_only=True)
class Folder(PictureDataset):
    """Image files: folder:DIR with train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png."""

    kind: ClassVar[str] = "folder"
    path: str = option("", "path of the folder")
    test_share: float | None = option(
        None, "share of each class that becomes test images; none: those of test/"
    )
    upright: bool = option(False, "turning of images by their EXIF orientation")

    def load(self) -> Data:
        """Read every image, in the order of class and file name.

        Raises:
            UserError: a missing folder, an unreadable image, or images of different sizes.
        """
        root = Path(self.path)
        kind = folder_kind_of(root)
        if kind:
            raise UserError(f"folder:{root} {kind}")
        inventory = Inventory(f"folder:{root.name}", root)
        train_root, test_root = root / "train", root / "test"
        if self.test_share is None:
            check_parts(root)
            beside = [
                path for path in inventory.folders(root) if path not in (train_root, test_root)
            ]
            inventory.leave_out(
                "folder other than train, test", "folders other than train, test", beside
            )
            train_files = self._files(inventory, train_root)
            test_files = self._files(inventory, test_root)
        else:
            train_root = test_root = one_part(root)
            train_files, test_files = divided(self._files(inventory, train_root), self.test_share)
        names = tuple(name for name, files in train_files.items() if files)
        if not names:
            raise UserError(f"{train_root} has no images; they go to {train_root.name}/CLASS/*.png")
        if len(names) < 2:
            raise UserError(
                f"{train_root} has {len(names)} class folders with images, allowed: two or "
                f"more; images go to {train_root.name}/CLASS/"
            )
        unknown = [name for name, files in test_files.items() if files and name not in names]
        if unknown:
            raise UserError(
                f"{test_root} has classes of which train has no images: {unknown}; remove or "
                "rename their folders"
            )
        train = self._split(train_root, [train_files[name] for name in names])
        test = self._split(test_root, [test_files.get(name, []) for name in names])
        inventory.report(missing=[name for name in names if not test_files.get(name)])
        return Data(f"folder:{root.name}", train, test, names, self.transform(train.size))

    def _files(self, inventory: Inventory, folder: Path) -> dict[str, list[Path]]:
        files = {name: inventory.pictures(folder / name) for name in inventory.classes(folder)}
        empty = [folder / name for name, own in files.items() if not own]
        inventory.leave_out("class folder without images", "class folders without images", empty)
        return files

    def _split(self, root: Path, classes: list[list[Path]]) -> ImageSet:
        images: list[Pixels] = []
        labels: list[int] = []
        for label, files in enumerate(classes):
            for file in files:
                images.append(read_picture(file, self.size, upright=self.upright))
                labels.append(label)
                self.check_size(images[-1], images[0], str(file))
        if not images:
            raise UserError(f"{root} has no images; they go to {root}/CLASS/*.png")
        names = tuple(file.relative_to(root).as_posix() for files in classes for file in files)
        return ImageSet(np.stack(images), np.array(labels, np.int64), len(classes), names)
