"""The ImageNet subset of the REM and SEM papers."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets.decoding import read_picture
from unlearnable_bench.datasets.inventory import Inventory
from unlearnable_bench.datasets.pictures import Split, class_folders, decoded
from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Data, Pixels, ResizedCrop, centre
from unlearnable_bench.options import option


@dataclass(frozen=True, kw_only=True)
class ImageNetSubset(Dataset):
    """The first 100 classes of ImageNet from a folder: imagenet-subset:DIR with train/, val/.

    As in the REM and SEM code, images are resized to 256 x 256 px regardless of their aspect
    ratio, and training draws random boxes scaled to 224 px. That code does not resize clean
    images; here all images are resized, so that runs differ only in the noise.
    """

    path: str = option("", "path of the folder, with train/WNID/*.JPEG and val/WNID/*.JPEG")
    classes: int = option(
        100, "number of classes, the first in the order of their WordNet ids", minimum=2
    )
    size: int = option(256, "height and width in pixels to which images are resized", minimum=1)
    crop: int = option(
        224, "height and width in pixels of the views that networks get, at most size", minimum=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop > self.size:
            raise UserError(
                f"crop must be at most size, {self.size}, got {self.crop}; use "
                f"--set imagenet-subset.crop={max(1, 7 * self.size // 8)}"
            )

    def load(self) -> Data:
        """Decode all images once (130,000 images: 26 GB), then map the arrays from the cache.

        Raises:
            UserError: too few classes, a class without images, or an unreadable image.
        """
        root = Path(self.path)
        inventory = Inventory("imagenet-subset", root)
        names = class_folders(inventory, root / "train")[: self.classes]
        if len(names) < self.classes:
            raise UserError(
                f"{root / 'train'} has {len(names)} class folders, not {self.classes}; use "
                f"--set imagenet-subset.classes={len(names)}"
            )
        train = self._split(inventory, root / "train", names, self.size)
        test = self._split(inventory, root / "val", names, self.crop)
        inventory.report()
        transform = ResizedCrop(self.crop, flip=True)
        return decoded("imagenet-subset", root, (train, test), tuple(names), transform)

    def _split(self, inventory: Inventory, folder: Path, names: list[str], size: int) -> Split:
        files = {name: inventory.pictures(folder / name) for name in names}
        empty = [name for name, own in files.items() if not own]
        if empty:
            raise UserError(f"no images of class {empty[0]}; they go to {folder / empty[0]}/*.JPEG")
        return Split(
            [file for own in files.values() for file in own],
            [label for label, own in enumerate(files.values()) for _ in own],
            size,
            partial(_resized, size=self.size, crop=size),
        )


def _resized(file: Path, size: int, crop: int) -> Pixels:
    """Return the central crop of an image resized to size x size."""
    part = centre(size, crop)
    return read_picture(file, size)[part, part]
