"""Image sets, data sets, and the random transformations of training."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

Result = TypeVar("Result")

_BLOCK = 1 << 18  # values in a block: a few wide copies of it fit into a cache
_CHUNK = 1 << 24  # values in a chunk: a few wide copies of it take hundreds of MB


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Labelled images. The arrays are read-only, since all cells of a run share them.

    Attributes:
        images: square RGB images, uint8 [N, H, W, 3].
        labels: labels, int64 [N], from 0 to classes - 1.
        classes: number of classes of the task, some of which a split may lack.
        files: the path of each image below the folder of its split ("cat/1.png"); None: unknown.

    Examples:
        >>> import numpy as np
        >>> from unlearnable_bench import ImageSet
        >>> images = ImageSet(np.zeros((5, 8, 8, 3), np.uint8), np.arange(5) % 2, classes=2)
        >>> images
        <ImageSet: 5 images of 8 px, 2 classes>
        >>> images.subset(np.array([4, 1])).labels.tolist()
        [0, 1]
    """

    images: Pixels
    labels: Labels
    classes: int
    files: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"<ImageSet: {len(self)} images of {self.size} px, {self.classes} classes>"

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.images.shape[1])

    def subset(self, index: Labels) -> "ImageSet":
        """Return the images with these indices, int64 [M], in this order."""
        files = None if self.files is None else tuple(self.files[k] for k in index)
        return ImageSet(self.images[index], self.labels[index], self.classes, files)

    def replaced(self, images: Pixels) -> "ImageSet":
        """Return other images, uint8 [N, H, W, 3], with the same labels."""
        return ImageSet(images, self.labels, self.classes, self.files)

    def digest(self) -> str:
        """Return the SHA-256 of shape, pixels and labels."""
        sha = hashlib.sha256(str(self.images.shape).encode())
        sha.update(np.ascontiguousarray(self.images).data)
        sha.update(np.ascontiguousarray(self.labels).data)
        return sha.hexdigest()


class Transform(NamedTuple):
    """The random transformation t of training: zero-padded crop and horizontal flip.

    Attributes:
        pad: largest shift in pixels (CIFAR: 4).
        flip: whether images are mirrored with probability 1/2.

    Examples:
        >>> from unlearnable_bench import Transform
        >>> Transform(pad=4, flip=True).view(32)
        32
    """

    pad: int
    flip: bool

    def view(self, size: int) -> int:
        """Return the height and width of the views of images of this size, in pixels."""
        return size


class ResizedCrop(NamedTuple):
    """The random transformation t for ImageNet: a rescaled random box and a horizontal flip.

    Attributes:
        crop: height and width to which the box is scaled, in pixels.
        flip: whether images are mirrored with probability 1/2.
        area: smallest share of the image that a box covers; the largest is 1.

    Examples:
        >>> from unlearnable_bench import ResizedCrop
        >>> ResizedCrop(crop=224, flip=True).view(256)
        224
    """

    crop: int
    flip: bool
    area: float = 0.08

    def view(self, size: int) -> int:
        """Return the height and width of the views of images of this size, in pixels."""
        return self.crop


def sha256_of(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's bytes in C order, as hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


class _Blocks(Protocol):
    """An array, or what gives parts of one."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> NDArray[Any]: ...


def blocks(images: _Blocks) -> Iterator[slice]:
    """Yield slices of an image set that cover it in order, at least one image each.

    Work in wider types than 8 bits goes block by block, so that its memory does not grow with the
    set: int64 takes eight times the memory of the images, and a formula needs several such arrays.

    Args:
        images: uint8 [N, H, W, 3].
    """
    return _slices(images, _BLOCK)


def chunks(images: Pixels) -> Iterator[slice]:
    """Yield larger slices than `blocks`, for work on a device or on several threads."""
    return _slices(images, _CHUNK)


def _slices(images: _Blocks, values: int) -> Iterator[slice]:
    rows = max(1, values // max(1, images[:1].size))
    for start in range(0, len(images), rows):
        yield slice(start, min(start + rows, len(images)))


def on_threads(work: Callable[[slice], Result], parts: Iterable[slice]) -> list[Result]:
    """Return the results of numpy work on parts of an array, in order.

    It uses as many threads as torch does on the CPU.

    Args:
        work: computes one part. It must not use a GPU, since each thread has a stream of its own.
        parts: the parts.
    """
    import torch  # noqa: PLC0415 - takes a second to load

    parts = list(parts)
    threads = min(torch.get_num_threads(), len(parts))
    if threads < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


def centre(size: int, view: int) -> slice:
    """Return the rows (or columns) of a central crop of `view` out of `size` pixels."""
    start = round((size - view) / 2)
    return slice(start, start + view)


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set: training images, test images, and the random transformation of training.

    Attributes:
        name: name of the data set.
        train: training images.
        test: test images, whose size is that of the training images' views.
        class_names: a name for each class, by label.
        transform: the random transformation t.
        digest: the value of `sha256` if it is known, since hashing large data takes long.

    Raises:
        UserError: arrays of the wrong type or shape, labels out of range, fewer than two
            classes, or no images.

    Examples:
        >>> import numpy as np
        >>> from unlearnable_bench import Data, ImageSet, Transform
        >>> images = ImageSet(np.zeros((5, 8, 8, 3), np.uint8), np.arange(5) % 2, classes=2)
        >>> Data("grey", images, images, ("cat", "dog"), Transform(pad=1, flip=True))
        <Data grey: 5 training, 5 test images>
        >>> Data("grey", images, images, ("cat",), Transform(pad=1, flip=True))
        Traceback (most recent call last):
        unlearnable_bench.errors.UserError: grey: needs two classes or more, has 1
    """

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    transform: Transform | ResizedCrop
    digest: str | None = None

    def __post_init__(self) -> None:
        for text in (self.name, *self.class_names):
            if not isinstance(text, str):
                raise UserError(
                    f"names of data and classes must be str, got {text!r} of type "
                    f"{type(text).__name__}"
                )
        if len(self.class_names) < 2:
            raise UserError(f"{self.name}: needs two classes or more, has {len(self.class_names)}")
        for split in ("train", "test"):
            self._check(split, getattr(self, split))
        size, view = self.train.size, self.transform.view(self.train.size)
        if view > size:
            raise UserError(f"{self.name}: a crop of {view} pixels is larger than its {size} px")
        if view != self.test.size:
            sizes = f"{view} and {self.test.size} pixels"
            raise UserError(
                f"{self.name}: views of train images and test images differ in size ({sizes})"
            )

    def __repr__(self) -> str:
        return f"<Data {self.name}: {len(self.train)} training, {len(self.test)} test images>"

    def _check(self, split: str, part: ImageSet) -> None:
        where = f"{self.name}: {split}"
        shape = part.images.shape
        if part.images.dtype != np.uint8:
            raise UserError(f"{where} images must be uint8, are {part.images.dtype}")
        if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
            raise UserError(f"{where} images must be square [N, H, W, 3], are {list(shape)}")
        if part.classes != len(self.class_names):
            names = len(self.class_names)
            raise UserError(f"{where} has {part.classes} classes and {names} class names")
        if len(part) == 0:
            raise UserError(f"{where} has no images")
        if part.labels.dtype != np.int64 or part.labels.shape != shape[:1]:
            got = f"{part.labels.dtype} {list(part.labels.shape)}"
            raise UserError(f"{where} labels must be int64 [{shape[0]}], are {got}")
        low, high = int(part.labels.min()), int(part.labels.max())
        if low < 0 or high >= len(self.class_names):
            limit = len(self.class_names) - 1
            raise UserError(f"{where} labels must lie in 0..{limit}, span {low}..{high}")

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over both splits, their labels and the class names."""
        if self.digest is not None:
            return self.digest
        text = "\n".join([self.train.digest(), self.test.digest(), *self.class_names])
        # Bytes of a folder's name that are not UTF-8 are lone surrogates here.
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
