"""CIFAR-100."""

from dataclasses import dataclass
from pathlib import Path

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets.cache import downloaded
from unlearnable_bench.datasets.cifar import fetch_archive, read_binary
from unlearnable_bench.images import Data

FILES = ("train.bin", "test.bin", "fine_label_names.txt")


@dataclass(frozen=True, kw_only=True)
class CIFAR100(Dataset):
    """CIFAR-100: 50,000 + 10,000 images, 32 px, 100 fine classes; downloaded (Krizhevsky 2009)."""

    def load(self) -> Data:
        """Read the cache, and fill it by a download (169 MB, MD5 checked) if it is empty."""
        return downloaded("cifar100", _fetch)


def _fetch(folder: Path) -> Data:
    fetch_archive("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", folder)
    return read_folder(folder / "cifar-100-binary")


def read_folder(folder: Path) -> Data:
    """Read the binary edition from the folder that has its files."""
    train, test, classes = FILES
    return read_binary(folder, "cifar100", train=[train], test=test, classes=classes, label_bytes=2)
