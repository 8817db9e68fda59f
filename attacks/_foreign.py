"""Arrays that other code has saved, with labels or file names next to them."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from unlearnable_bench import ImageSet, UserError
from unlearnable_bench.file_kinds import kind_of

_LABELS = ("labels", "label", "y", "y_train", "targets", "classes")
_FILES = ("files", "file", "filenames", "filename", "file_names", "names", "paths", "path")


@dataclass(frozen=True)
class Saved:
    """The content of a file.

    Attributes:
        array: noise or images, [N, H, W, 3]; may be a view of the file.
        layout: axes in the file, "[N, H, W, 3]" or "[N, 3, H, W]".
        labels: a label for each row, int64 [N].
        files: the name of an image file for each row.
        source: where labels and names come from, for messages.
    """

    array: NDArray[Any]
    layout: str
    labels: NDArray[np.int64] | None = None
    files: tuple[str, ...] | None = None
    source: str = ""


def read_saved(path: Path, images: ImageSet) -> Saved:
    """Return the array of a file, of the shape of the images, and what is next to it.

    Raises:
        UserError: an unreadable file, or an array of another shape.
    """
    arrays = _arrays(path)
    labels = _only(path, arrays, _LABELS)
    files = _only(path, arrays, _FILES)
    if len(arrays) != 1:
        names = [*sorted(arrays)[:5], *(["..."] if len(arrays) > 5 else [])]
        raise UserError(
            f"{path} holds {', '.join(names) or 'nothing'}; save one array, if you like with "
            "`labels` or `files`: np.savez('noise.npz', noise=noise, labels=y_train)"
        )
    array, layout = _channels_last(next(iter(arrays.values())))
    _check_shape(path, array, images)
    source, table = str(path), path.with_suffix(".csv")
    if labels is None and files is None and table.is_file():
        labels, files = _columns(table)
        source = str(table)
    count = len(array)
    return Saved(
        array,
        layout,
        None if labels is None else _classes(source, labels, count),
        None if files is None else _texts(source, files, count),
        source,
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.exists():
        raise UserError(f"file:{path}: no such file; write --methods file:PATH")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = np.load(path, allow_pickle=False, mmap_mode="r")
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            arrays = dict(loaded)
        if all(isinstance(array, np.ndarray) for array in arrays.values()):
            return arrays
        reason = "a zip of files other than .npy"
    except Exception as error:  # numpy, zipfile and safetensors raise exceptions of their own
        reason = str(error).split("\n")[0]
        if "allow_pickle" in reason:
            reason = "it holds Python objects, which are never unpickled"
        if "mmap length" in reason:
            reason = "it ends early; copy or download it again"
    kind = kind_of(path)
    raise UserError(
        f"{path} {kind}"
        if kind
        else f"{path} is not a readable array file ({reason}); allowed: .npy, .npz, .safetensors"
    )


def _only(
    path: Path, arrays: dict[str, NDArray[Any]], names: tuple[str, ...]
) -> NDArray[Any] | None:
    """Take the array with one of these names out of the others, unless it is the only array."""
    found = [name for name in arrays if name.lower() in names]
    if not found or len(arrays) == 1:
        return None
    if len(found) > 1:
        raise UserError(f"{path} holds {' and '.join(found)}, of one meaning; save one of them")
    return arrays.pop(found[0])


def _channels_last(array: NDArray[Any]) -> tuple[NDArray[Any], str]:
    if array.ndim == 4 and array.shape[1] == 3 and array.shape[3] != 3:
        return array.transpose(0, 2, 3, 1), "[N, 3, H, W]"
    return array, "[N, H, W, 3]"


def _check_shape(path: Path, array: NDArray[Any], images: ImageSet) -> None:
    shape, wanted = array.shape, images.images.shape
    if shape == wanted:
        return
    what = f"{path} holds {list(shape)}, the images are {list(wanted)}"
    if shape[1:] == wanted[1:] and len(array) == images.classes:
        step = "if it has one noise per class, save one per image: np.save('noise.npy', a[y_train])"
    elif shape == (1, *wanted[1:]):
        step = f"if all share it, repeat it: np.save('noise.npy', np.repeat(a, {wanted[0]}, 0))"
    elif shape in (wanted[1:], (3, *wanted[1:3])):
        step = f"if all share it, repeat it: np.save('noise.npy', np.stack([a] * {wanted[0]}))"
    elif shape[1:] in (wanted[1:], (3, *wanted[1:3])) and len(array) < wanted[0]:
        step = (
            "if it covers a part of the training set, put its rows in their places: full = "
            f"np.zeros({tuple(wanted)}) (for images x_train.copy()); full[index] = a"
        )
    else:
        step = "give one noise or poisoned image for each training image, in their order"
    raise UserError(f"{what}; {step}")


def _columns(table: Path) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Return labels and file names of a CSV: columns by their heading, or one without heading."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} is not a readable CSV file ({error})") from error
    heading = [name.strip().lower() for name in rows[0]] if rows else []
    places = [
        next((k for k, name in enumerate(heading) if name in names), None)
        for names in ((*_LABELS, "class"), _FILES)
    ]
    if places == [None, None]:
        if len(heading) != 1:
            raise UserError(
                f"{table} has the columns {', '.join(heading) or 'none'}; name one `label` or "
                "`file`, or move the file away"
            )
        texts = np.array([row[0].strip() for row in rows])
        whole = np.char.isdecimal(texts).all()
        return (texts, None) if whole else (None, texts)
    if any(len(row) <= max(k for k in places if k is not None) for row in rows):
        raise UserError(f"{table} has rows without a value; give one row per image")
    found = [None if k is None else np.array([r[k].strip() for r in rows[1:]]) for k in places]
    return found[0], found[1]


def _classes(source: str, labels: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return labels as int64 [N] from [N], [N, 1] or one-hot rows."""
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf":
        if not ((labels == 0) | (labels == 1)).all() or (labels.sum(1) != 1).any():
            raise UserError(f"{source}: labels {list(labels.shape)} are not one-hot; save numbers")
        labels = labels.argmax(1)
    labels = labels.reshape(-1)
    try:
        whole = labels.astype(np.int64)
        exact = labels.dtype.kind == "U" or bool((whole == labels).all())
    except ValueError:
        exact = False
    if not exact:
        raise UserError(f"{source}: labels must be whole numbers, such as {labels[0]!s}; save y")
    if len(whole) != count:
        raise UserError(f"{source} has {len(whole)} labels for {count} rows; give one per row")
    return whole


def _texts(source: str, files: NDArray[Any], count: int) -> tuple[str, ...]:
    texts = tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        for name in files.reshape(-1).tolist()
    )
    if len(texts) != count:
        raise UserError(f"{source} has {len(texts)} file names for {count} rows; give one per row")
    return texts
