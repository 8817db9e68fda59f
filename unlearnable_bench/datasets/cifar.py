"""The binary edition of CIFAR-10 and CIFAR-100.

It holds the same images in the same order as the Python one, which would have to
be unpickled.
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
    """Download an archive of the site into a folder, check it, and unpack it there."""
    download_and_extract_archive(f"{_SITE}/{archive}", str(folder), md5=md5)


def read_binary(
    folder: Path, name: str, *, train: Sequence[str], test: str, classes: str, label_bytes: int
) -> Data:
    """Read files of rows: label bytes, of which the last one counts, and 3,072 pixel bytes.

    Args:
        folder: where the files are.
        name: of the data set.
        train: names of the files of training images.
        test: name of the file of test images.
        classes: name of the file of class names, one a line.
        label_bytes: before the pixels (CIFAR-100: coarse label, fine label).

    Raises:
        UserError: a file that is no whole number of rows.
    """
    names = tuple((folder / classes).read_text(encoding="ascii").split())
    width = label_bytes + _PIXELS

    def rows(file: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        content = np.fromfile(folder / file, dtype=np.uint8)
        if content.size % width:
            raise UserError(f"{file} is truncated: {content.size} bytes, no multiple of {width}")
        return content.reshape(-1, width)

    def split(files: Sequence[str]) -> ImageSet:
        content = np.concatenate([rows(file) for file in files])
        images = content[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = content[:, label_bytes - 1].astype(np.int64)
        return ImageSet(np.ascontiguousarray(images), labels, len(names))

    return Data(name, split(train), split([test]), names, Transform(4, flip=True))
