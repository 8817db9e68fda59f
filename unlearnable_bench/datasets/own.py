"""What the data sets of a user's own pictures have in common."""

import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets.decoding import eight_bit_rgb
from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Pixels, Transform
from unlearnable_bench.options import option

_TEST = ("test", "validation", "valid", "val")


@dataclass(frozen=True, kw_only=True)
class OwnDataset(Dataset):
    """Base of data sets that a path names.

    Each declares `path` again, from which the shell's completion sees, without importing it, that
    it takes one.
    """

    path: str = option("", "path")
    pad: int | None = option(
        None, "largest shift of the random crop in pixels; none: size / 8", minimum=0
    )
    flip: bool = option(True, "horizontal flips of training images, at random")

    def transform(self, side: int) -> Transform:
        """Return the random transformation of images of `side` pixels."""
        return Transform(side // 8 if self.pad is None else self.pad, self.flip)


@dataclass(frozen=True, kw_only=True)
class PictureDataset(OwnDataset):
    """Base of data sets of encoded pictures, which are held in memory.

    Attributes:
        kind: name of the data set on the command line.
    """

    kind: ClassVar[str]
    size: int | None = option(
        None,
        "height and width in pixels to which images are resized; none: not resized",
        minimum=1,
    )

    def decoded(self, content: bytes, where: str) -> Pixels:
        """Return an encoded picture as uint8 [H, W, 3].

        Raises:
            UserError: not a readable picture; `where` names it.
        """
        try:
            with Image.open(io.BytesIO(content)) as image:
                return eight_bit_rgb(image, where, self.size)
        except UserError:
            raise
        except Exception as error:  # Pillow raises exceptions of many kinds on damaged files
            raise UserError(f"{where} is not a readable image; repair or remove it") from error

    def check_size(self, pixels: Pixels, first: Pixels, where: str) -> None:
        """Refuse a picture that is not square, or not of the size of the first one.

        Args:
            pixels: uint8 [H, W, 3].
            first: the first picture of the part, possibly the same.
            where: names the picture.

        Raises:
            UserError: names the picture and the option that resizes all.
        """
        height, width = pixels.shape[:2]
        if pixels.shape != first.shape:
            problem = f"the first image is {first.shape[1]}x{first.shape[0]}"
        elif height != width:
            problem = "not square"
        else:
            return
        raise UserError(
            f"{where} is {width}x{height}, {problem}; resize all of them: --set {self.kind}.size=64"
        )


@dataclass(frozen=True, kw_only=True)
class SplitDataset(PictureDataset):
    """Base of data sets that are stored in named splits.

    Attributes:
        split_step: a further step for who lacks a split, as the end of a message.
    """

    split_step: ClassVar[str] = ""
    train: str = option("train", "split of the training images")
    test: str | None = option(None, "split of the test images; none: test, else validation")

    def chosen_splits(self, what: str, splits: Collection[str]) -> tuple[str, str]:
        """Return the names of the splits of training and of test images.

        Args:
            what: the data set, for messages.
            splits: the names of those that exist.

        Raises:
            UserError: one does not exist, or both are the same.
        """
        train = self._split(what, "train", (self.train,), splits)
        test = self._split(what, "test", (self.test,) if self.test else _TEST, splits)
        if train == test:
            raise UserError(
                f"{what}: training and test images are both the split {train}; name another with "
                f"--set {self.kind}.test=SPLIT"
            )
        return train, test

    def _split(self, what: str, part: str, wanted: tuple[str, ...], splits: Collection[str]) -> str:
        """Return the first of the wanted splits that exists."""
        for name in wanted:
            if name in splits:
                return name
        raise UserError(
            f"{what} has no split {' or '.join(wanted)}, it has {', '.join(splits)}; name one with "
            f"--set {self.kind}.{part}=SPLIT{self.split_step}"
        )
