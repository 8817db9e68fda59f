"""The binary version of CIFAR-10 and CIFAR-100.

It has the same images in the same order as the Python version, which would have to be unpickled.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets.utils import download_and_extract_archive

from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Data, ImageSet, Transform

_SITE = "https://www.cs.toronto.edu/~kriz"
_PIXELS = 3 * 32 * 32


def fetch_archive(archive: str, md5: str, folder: Path) -> None:
    """Download an archive into a folder, check its MD5, and unpack it there."""
    download_and_extract_archive(f"{_SITE}/{archive}", str(folder), md5=md5)


def read_binary(
    folder: Path, name: str, *, train: Sequence[str], test: str, classes: str, label_bytes: int
) -> Data:
    """Read binary files, whose rows are label bytes and 3,072 pixel bytes.

    Args:
        folder: folder of the files.
        name: name of the data set.
        train: names of the files of training images.
        test: name of the file of test images.
        classes: name of the file of class names, one per line.
        label_bytes: number of label bytes, of which the last is used (CIFAR-100: coarse label,
            fine label).

    Raises:
        UserError: the size of a file is not a multiple of the size of a row.
    """
    names = tuple((folder / classes).read_text(encoding="ascii").split())
    width = label_bytes + _PIXELS

    def rows(file: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        content = np.fromfile(folder / file, dtype=np.uint8)
        if content.size % width:
            raise UserError(
                f"{file} is truncated: {content.size} bytes, not a multiple of {width}; run the "
                "command again to download it"
            )
        return content.reshape(-1, width)

    def split(files: Sequence[str]) -> ImageSet:
        content = np.concatenate([rows(file) for file in files])
        images = content[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = content[:, label_bytes - 1].astype(np.int64)
        return ImageSet(np.ascontiguousarray(images), labels, len(names))

    return Data(name, split(train), split([test]), names, Transform(4, flip=True))
