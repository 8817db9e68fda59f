"""The published data sets, known by the hash of their pixels and labels."""

import hashlib
from typing import NamedTuple

import numpy as np

from unlearnable_bench.images import Data, ImageSet


class Digests(NamedTuple):
    """SHA-256 of a split: pixels, uint8 [N, H, W, 3], and labels, int64 [N], little-endian."""

    pixels: str
    labels: str


TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN"}

# In the order of the published files, labels of CIFAR-100 being the fine ones.
OFFICIAL = {
    "cifar10": {
        "train": Digests(
            "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            "f5cfe00b0f00968c0cc5ff3b1d2de51b10e33efa277c2986f4e0fa63e58c9f4f",
        ),
        "test": Digests(
            "1249626010949d8f448e0faf792debbc3da0c50ed31bfff3678c99c37fbc7e48",
            "cbb7365de8ed11f05cc4c3a1e7f78144127c5e851efd83762fb18202461230bb",
        ),
    },
    "cifar100": {
        "train": Digests(
            "4e457917601a66aed021f5fa37957b56c6319557c0a8ed5484de3c390af45430",
            "8bf4935e7c77a3096270043c6f3b221b6ecb9c63d1a08608e9af66cff17e977a",
        ),
        "test": Digests(
            "4cb8e5d9309da489bf6b19cc10cd96c3ae6f8daf225380b605aaee4c0d6aee19",
            "80031c23f8300724c6fbc588e4bccbe41c6392041782148727bb497b0132c4ad",
        ),
    },
}

# `Data.sha256` with the published class names.
SHA256 = {
    "cifar10": "230c457b869ae0630cd82c317c5f5fb6f38f68a7de8223be9e4d187945dc1580",
    "cifar100": "4d557dd7e5d9a577b867d9a8e77ead6bbe0386b94801a1decb972ffe6c4ee3cf",
}


def is_known(name: str) -> bool:
    """Return whether the hashes of a published data set are known."""
    return name in OFFICIAL


def differences(name: str, data: Data) -> list[str]:
    """Return which arrays differ from those of a published data set, such as "test labels".

    Args:
        name: name of a known data set.
        data: data of its shape.
    """
    found = []
    for split, official in OFFICIAL[name].items():
        own = digests(getattr(data, split))
        parts = zip(Digests._fields, own, official, strict=True)
        found += [f"{split} {part}" for part, one, other in parts if one != other]
    return found


def digests(images: ImageSet) -> Digests:
    """Return the SHA-256 of the pixels and of the labels."""
    labels = np.ascontiguousarray(images.labels, "<i8")
    pixels = np.ascontiguousarray(images.images)
    return Digests(*(hashlib.sha256(array.data).hexdigest() for array in (pixels, labels)))
