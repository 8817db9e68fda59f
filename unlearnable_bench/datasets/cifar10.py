"""CIFAR-10."""

from dataclasses import dataclass
from pathlib import Path

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets.cache import downloaded
from unlearnable_bench.datasets.cifar import fetch_archive, read_binary
from unlearnable_bench.images import Data

FILES = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin", "batches.meta.txt")


@dataclass(frozen=True, kw_only=True)
class CIFAR10(Dataset):
    """CIFAR-10: 50,000 + 10,000 images of 32 px, 10 classes; downloaded once (Krizhevsky 2009)."""

    def load(self) -> Data:
        """Read the cache, and fill it by a download (170 MB, MD5 checked) if it is empty."""
        return downloaded("cifar10", _fetch)


def _fetch(folder: Path) -> Data:
    fetch_archive("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", folder)
    return read_folder(folder / "cifar-10-batches-bin")


def read_folder(folder: Path) -> Data:
    """Read the binary edition from the folder that has its files."""
    *train, test, classes = FILES
    return read_binary(folder, "cifar10", train=train, test=test, classes=classes, label_bytes=1)
