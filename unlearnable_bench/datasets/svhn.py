"""Street View House Numbers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from torchvision.datasets.utils import check_md5, download_url

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets.cache import downloaded
from unlearnable_bench.images import Data, ImageSet, Transform

_SITE = "http://ufldl.stanford.edu/housenumbers"
_MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}

FILES = tuple(_MD5)


@dataclass(frozen=True, kw_only=True)
class SVHN(Dataset):
    """SVHN: 73,257 + 26,032 digits of 32 px, never mirrored; downloaded (Netzer et al. 2011)."""

    def load(self) -> Data:
        """Read the cache, and fill it by a download (246 MB, MD5 checked) if it is empty."""
        return downloaded("svhn", _fetch, flip=False)


def _fetch(folder: Path) -> Data:
    for name, md5 in _MD5.items():
        download_url(f"{_SITE}/{name}", str(folder), md5=md5)
    return read_folder(folder)


def read_folder(folder: Path) -> Data:
    """Read both MATLAB files from their folder."""
    train, test = (read_mat(folder / name) for name in FILES)
    # A mirrored digit is another digit or not a digit.
    transform = Transform(4, flip=False)
    return Data("svhn", train, test, tuple("0123456789"), transform)


def is_published(folder: Path) -> bool:
    """Return whether both MATLAB files in a folder are the published ones, by their MD5."""
    return all(check_md5(str(folder / name), md5) for name, md5 in _MD5.items())


def read_mat(path: Path) -> ImageSet:
    """Read a MATLAB file of images X [32, 32, 3, N] and labels y [N, 1], where 10 means 0."""
    content = loadmat(path, variable_names=["X", "y"])
    images = np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2))
    return ImageSet(images, content["y"].reshape(-1).astype(np.int64) % 10, 10)
