"""Data from an .npz file, and functions to read and write such files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from unlearnable_bench.contract import Dataset
from unlearnable_bench.errors import UserError
from unlearnable_bench.files import replacing
from unlearnable_bench.images import Data, ImageSet, Transform
from unlearnable_bench.options import option

KEYS = ("x_train", "y_train", "x_test", "y_test", "class_names")


@dataclass(frozen=True, kw_only=True)
class Npz(Dataset):
    """Arrays from a file: npz:FILE with x_train, y_train, x_test, y_test, class_names."""

    path: str = option("", "path of the file; images uint8 [N, H, W, 3], labels integer [N]")
    pad: int | None = option(
        None, "largest shift of the random crop in pixels; none: size / 8", minimum=0
    )
    flip: bool = option(True, "horizontal flips of training images, at random")

    def load(self) -> Data:
        """Read the file, without unpickling anything."""
        path = Path(self.path)
        return read_npz(path, f"npz:{path.stem}", self.pad, flip=self.flip)


def read_npz(path: Path, name: str, pad: int | None = None, *, flip: bool = True) -> Data:
    """Return the data of an .npz file.

    Args:
        path: the file, with the arrays of `KEYS`.
        name: name of the data set.
        pad: largest shift of the random crop in pixels; None: size / 8.
        flip: whether training mirrors images at random.

    Raises:
        UserError: the file is missing or damaged, or an array is missing or has another form.
    """
    if not path.is_file():
        raise UserError(f"{name}: no file {path}; write --dataset npz:FILE")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file.files]
            if missing:
                raise UserError(
                    f"{path} lacks {', '.join(missing)}; an npz data set holds {', '.join(KEYS)}"
                )
            arrays = {key: _typed(file, key, path) for key in KEYS}
    except UserError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise exceptions of their own
        reason = str(error).split("\n")[0]
        raise UserError(f"{path} is not a readable .npz file ({reason})") from error
    names = _texts(arrays["class_names"], path)
    parts = {}
    for split in ("train", "test"):
        shape, labels = arrays[f"x_{split}"].shape, arrays[f"y_{split}"]
        if len(shape) != 4:
            raise UserError(f"{name}: x_{split} must be [N, H, W, 3], is {list(shape)}")
        if labels.dtype.kind not in "iu":
            raise UserError(f"{name}: y_{split} must be integers, is {labels.dtype}")
        parts[split] = ImageSet(arrays[f"x_{split}"], labels.astype(np.int64), len(names))
    pad = parts["train"].size // 8 if pad is None else pad
    return Data(name, parts["train"], parts["test"], names, Transform(pad, flip))


def _typed(file: NpzFile, key: str, path: Path) -> NDArray[Any]:
    """Return an array of the file; refuse one of Python objects, which would be unpickled."""
    try:
        array: NDArray[Any] = file[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        kinds = {"class_names": "str", "y_train": "np.int64", "y_test": "np.int64"}
        raise UserError(
            f"{path}: {key} is an array of Python objects, which is never unpickled; save it as "
            f"np.array({key}.tolist(), dtype={kinds.get(key, 'np.uint8')})"
        ) from error
    return array


def _texts(names: NDArray[Any], path: Path) -> tuple[str, ...]:
    """Return class names as text; names of CIFAR's Python edition are bytes."""
    if names.dtype.kind != "S":
        return tuple(map(str, names.reshape(-1)))
    try:
        return tuple(name.decode() for name in names.reshape(-1).tolist())
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: class_names are bytes that are not UTF-8; save them with dtype=str"
        ) from error


def write_npz(data: Data, path: Path) -> None:
    """Write data as an uncompressed .npz file, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            x_train=data.train.images,
            y_train=data.train.labels,
            x_test=data.test.images,
            y_test=data.test.labels,
            class_names=np.array(data.class_names),
        )
