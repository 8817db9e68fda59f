"""CIFAR-100."""

from dataclasses import dataclass
from pathlib import Path

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets.cache import downloaded
from unlearnable_bench.datasets.cifar import fetch_archive, read_binary
from unlearnable_bench.images import Data


@dataclass(frozen=True, kw_only=True)
class CIFAR100(Dataset):
    """CIFAR-100: 50,000 + 10,000 images, 32 px, 100 fine classes; downloaded (Krizhevsky 2009)."""

    def load(self) -> Data:
        """Read the cache, and fill it by a download (169 MB, MD5 checked) if it is empty."""
        return downloaded("cifar100", _fetch)


def _fetch(folder: Path) -> Data:
    fetch_archive("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", folder)
    return read_binary(
        folder / "cifar-100-binary",
        "cifar100",
        train=["train.bin"],
        test="test.bin",
        classes="fine_label_names.txt",
        label_bytes=2,
    )
