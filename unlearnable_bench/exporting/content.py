"""What is exported: a poisoned training set, with what it is and where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import unknown
from unlearnable_bench.images import ImageSet, Pixels, blocks, sha256_of

What = Literal["images", "noise"]


@dataclass(frozen=True, eq=False)
class PoisonedSet:
    """A poisoned training set, in the order of the data set.

    Attributes:
        name: name of the poison, as a name of files.
        clean: the clean training set.
        images: the poisoned images, uint8 [N, H, W, 3].
        class_names: a name for each class, by label.
        protected: whether an image is poisoned, bool [N]; the others are the clean ones.
        facts: method, options, budget, origin and so on, in JSON's types, for the card.
        test: the clean test set, if it is exported too.
    """

    name: str
    clean: ImageSet
    images: Pixels
    class_names: tuple[str, ...]
    protected: NDArray[np.bool_]
    facts: Mapping[str, Any] = field(default_factory=dict)
    test: ImageSet | None = None

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the poisoned pixels."""
        return sha256_of(self.images)

    @cached_property
    def noise(self) -> NDArray[np.signedinteger[Any]]:
        """Poisoned minus clean images in 8-bit levels, [N, H, W, 3]: int8, or int16 beyond it."""
        small = self.levels < 128
        noise: NDArray[Any] = np.empty(self.images.shape, np.int8 if small else np.int16)
        for part in blocks(self.images):
            noise[part] = self.images[part].astype(np.int16) - self.clean.images[part]
        return noise

    @property
    def levels(self) -> int:
        """Largest change of a value in 8-bit levels."""
        worst = 0
        for part in blocks(self.images):
            change = self.images[part].astype(np.int16) - self.clean.images[part]
            worst = max(worst, int(np.abs(change).max()))
        return worst

    def array(self, what: What) -> NDArray[Any]:
        """Return the poisoned images or the noise, [N, H, W, 3]."""
        return self.images if what == "images" else self.noise

    def splits(self) -> dict[str, ImageSet]:
        """Return the images by the name of their split: train, and test if it is exported."""
        train = self.clean.replaced(self.images)
        return {"train": train} | ({"test": self.test} if self.test is not None else {})

    def flags(self, split: str) -> NDArray[np.bool_]:
        """Return whether each image of a split is poisoned."""
        test = 0 if self.test is None else len(self.test)
        return self.protected if split == "train" else np.zeros(test, bool)


def content_of(text: str) -> What:
    """Return what is exported by its name.

    Raises:
        UserError: neither images nor noise.
    """
    for what in get_args(What):
        if what == text:
            return cast("What", what)
    raise unknown("content", text, get_args(What))


def digits(count: int) -> int:
    """Return the number of digits of the largest index below a count."""
    return len(str(max(0, count - 1)))
