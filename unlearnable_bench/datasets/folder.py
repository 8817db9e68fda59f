"""Data from a folder of image files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets.pictures import pictures_in, read_picture
from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Data, ImageSet, Pixels, Transform
from unlearnable_bench.options import option


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
        for split in ("train", "test"):
            if not (root / split).is_dir():
                raise UserError(
                    f"folder:{root}: no folder {root / split}; images go to train/CLASS/ and "
                    "test/CLASS/"
                )
        names = tuple(sorted(p.name for p in (root / "train").iterdir() if p.is_dir()))
        if len(names) < 2:
            raise UserError(
                f"{root / 'train'} has {len(names)} class folders, allowed: two or more; images "
                "go to train/CLASS/"
            )
        unknown = {p.name for p in (root / "test").iterdir() if p.is_dir()} - {*names}
        if unknown:
            raise UserError(
                f"{root / 'test'} has classes that train lacks: {sorted(unknown)}; remove or "
                "rename their folders"
            )
        train, test = (self._split(root / split, names) for split in ("train", "test"))
        pad = train.size // 8 if self.pad is None else self.pad
        return Data(f"folder:{root.name}", train, test, names, Transform(pad, self.flip))

    def _split(self, root: Path, names: tuple[str, ...]) -> ImageSet:
        images: list[Pixels] = []
        labels: list[int] = []
        for label, name in enumerate(names):
            for file in pictures_in(root / name):
                images.append(read_picture(file, self.size))
                labels.append(label)
                if images[-1].shape != images[0].shape:
                    height, width = images[-1].shape[:2]
                    raise UserError(
                        f"{file} is {width}x{height}, the first image is not; resize all of them: "
                        "--set folder.size=64"
                    )
        if not images:
            raise UserError(f"{root} has no images; they go to {root / names[0]}/*.png")
        return ImageSet(np.stack(images), np.array(labels, np.int64), len(names))
