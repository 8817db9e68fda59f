"""Data from an .npz file, and functions to read and write such files."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from unlearnable_bench.datasets.medmnist import is_medmnist, read_medmnist
from unlearnable_bench.datasets.own import OwnDataset
from unlearnable_bench.errors import UserError
from unlearnable_bench.file_kinds import kind_of
from unlearnable_bench.images import Data, ImageSet, Transform
from unlearnable_bench.options import option
from unlearnable_bench.storage import seal
from unlearnable_bench.storage.files import replacing

KEYS = ("x_train", "y_train", "x_test", "y_test", "class_names")


@dataclass(frozen=True, kw_only=True)
class Npz(OwnDataset):
    """Arrays from a file: npz:FILE with x_train, y_train, x_test, y_test, class_names; MedMNIST."""

    path: str = option("", "path of the file; images uint8 [N, H, W, 3], labels integer [N]")

    def load(self) -> Data:
        """Read the file, without unpickling anything."""
        path = Path(self.path)
        return read_npz(path, f"npz:{path.stem}", self.pad, flip=self.flip)


def read_npz(path: Path, name: str, pad: int | None = None, *, flip: bool = True) -> Data:
    """Return the data of an .npz file.

    Args:
        path: the file, with the arrays of `KEYS` or of MedMNIST.
        name: name of the data set.
        pad: largest shift of the random crop in pixels; None: size / 8.
        flip: whether training mirrors images at random.

    Raises:
        UserError: the file is missing or damaged, or an array is missing or has another form.
    """
    arrays = _arrays(path, name)
    names = _texts(arrays["class_names"], path)
    parts = {}
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        _check_images(f"{name}: x_{split}", images)
        _check_labels(f"{name}: y_{split}", labels, len(images))
        parts[split] = ImageSet(images, labels.astype(np.int64), len(names))
    pad = parts["train"].size // 8 if pad is None else pad
    return Data(name, parts["train"], parts["test"], names, Transform(pad, flip))


def _arrays(path: Path, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of `KEYS`, of a file that has them or MedMNIST's."""
    if not path.is_file():
        kind = f"is a folder; write folder:{path}" if path.is_dir() else None
        text = f"{path} {kind}" if kind else f"no file {path}; give an .npz file"
        raise UserError(f"{name}: {text}")
    try:
        seal.check_file(path)
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                held = f"one array {list(file.shape)}"
            else:
                found = [key for key in file.files if isinstance(key, str)]
                if {*KEYS} <= {*found}:
                    return {key: _typed(file, key, path) for key in KEYS}
                if is_medmnist(found):
                    return read_medmnist(partial(_typed, file, path=path), found, name, path)
                held = ", ".join([*found[:5], *(["..."] if len(found) > 5 else [])]) or "nothing"
    except UserError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise exceptions of their own
        kind = kind_of(path)
        if kind:
            raise UserError(f"{path} {kind}") from error
        # numpy takes any other content for a pickle, and tells how to load it unsafely.
        reason = "" if "pickle" in str(error) else f" ({str(error).split(chr(10))[0]})"
        raise UserError(
            f"{path} is not a readable .npz file{reason}; give one of np.savez"
        ) from error
    kind = kind_of(path)
    if kind:
        raise UserError(f"{path} {kind}")
    missing = [key for key in KEYS if key not in held.split(", ")]
    raise UserError(
        f"{path} lacks {', '.join(missing)}; an npz data set holds {', '.join(KEYS)}, this file "
        f"holds {held}"
    )


def _check_images(what: str, images: NDArray[Any]) -> None:
    """Refuse other than uint8 [N, H, W, 3], with the expression that makes it of `x`."""
    shape = images.shape
    step = ""
    if images.ndim == 3 or (images.ndim == 4 and shape[3] == 1):
        grey = "x[..., None]" if images.ndim == 3 else "x"
        step = f"if they are grey, save np.repeat({grey}, 3, axis=3)"
    elif images.ndim == 4 and shape[3] != 3 and shape[1] == 3:
        step = "if channels come first, save x.transpose(0, 2, 3, 1)"
    elif images.ndim == 4 and shape[3] == 4:
        step = "if they have transparency, save x[..., :3]"
    if step or images.ndim != 4:
        raise UserError(
            f"{what} must be [N, H, W, 3], is {list(shape)}{f'; {step}' if step else ''}"
        )
    if images.dtype != np.uint8 and images.size and images.dtype.kind in "fiu":
        low, high = float(images.min()), float(images.max())
        if images.dtype.kind == "f" and low >= 0 and high <= 1:
            step = "; save np.rint(255 * x).astype(np.uint8)"
        elif low >= 0 and high <= 255:
            step = "; save np.rint(x).astype(np.uint8)"
        raise UserError(
            f"{what} must be uint8, is {images.dtype} from {low:g} to {high:g}"
            f"{step or '; scale it to 0..255, and round'}"
        )


def _check_labels(what: str, labels: NDArray[Any], count: int) -> None:
    """Refuse other than integers [N], with the expression that makes them of `y`."""
    step = ""
    if labels.ndim == 2 and labels.shape[1] == 1:
        step = "save y.reshape(-1)"
    elif labels.ndim == 2:
        step = "if they are one-hot, save y.argmax(1)"
    if step:
        raise UserError(f"{what} must be integers [{count}], is {list(labels.shape)}; {step}")
    if labels.dtype.kind not in "iu":
        step = "; save y.astype(int)" if labels.dtype.kind in "fb" else ""
        raise UserError(f"{what} must be integers, is {labels.dtype}{step}")


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
    """Write data as an uncompressed .npz file with a checksum (`storage/seal.py`), atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            np.savez(
                file,
                x_train=data.train.images,
                y_train=data.train.labels,
                x_test=data.test.images,
                y_test=data.test.labels,
                class_names=np.array(data.class_names),
            )
        with ZipFile(temporary, "a") as archive:
            archive.comment = seal.PLACEHOLDER.encode()
        seal.seal_file(temporary)
