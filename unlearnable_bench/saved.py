"""Arrays that other code has saved, with labels or file names next to them."""

import csv
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from unlearnable_bench.errors import UserError
from unlearnable_bench.exporting.reading import is_export, read_export
from unlearnable_bench.file_kinds import kind_of
from unlearnable_bench.saved_pictures import is_pictures, read_pictures

_LABELS = ("labels", "label", "y", "y_train", "targets", "classes")
_SHA256 = ("sha256",)
_INDEX = ("index", "indices", "idx")
_FILES = ("files", "file", "filenames", "filename", "file_names", "names", "paths", "path")
_TORCH = (".pt", ".pth")
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the first bytes before torch 1.6


@dataclass(frozen=True)
class Saved:
    """The content of a file.

    Attributes:
        array: rows of noise or images, [R, H, W, 3]; may be a view of the file.
        layout: axes in the file, such as "[N, H, W, 3]" or "[N, 3, H, W]".
        labels: a label for each row, int64 [R].
        files: the name of an image file for each row.
        source: where labels and names come from, for messages.
        sha256: SHA-256 of the images from which these were made.
        index: the index of a training image for each row, int64 [R].
        pictures: whether the rows are pictures, whose names are `files`.
    """

    array: NDArray[Any]
    layout: str
    labels: NDArray[np.int64] | None = None
    files: tuple[str, ...] | None = None
    source: str = ""
    sha256: str | None = None
    index: NDArray[np.int64] | None = None
    pictures: bool = False


def read_rows(path: Path) -> Saved:
    """Return the rows that a file holds, and what is next to them.

    Raises:
        UserError: an unreadable file, or an array that has no rows of RGB images.
    """
    if not path.exists():
        raise UserError(f"file:{path}: no such file; write --methods file:PATH")
    if is_export(path):
        return _of_export(path)
    if is_pictures(path):
        pixels, files_in = read_pictures(path)
        return Saved(pixels, "pictures", files=files_in, source=str(path), pictures=True)
    arrays = read_arrays(path)
    _drop_companions(arrays)
    labels = _only(path, arrays, _LABELS)
    files = _only(path, arrays, _FILES)
    sha256 = _only(path, arrays, _SHA256)
    index = _only(path, arrays, _INDEX)
    if len(arrays) != 1:
        names = [*sorted(arrays)[:5], *(["..."] if len(arrays) > 5 else [])]
        raise UserError(
            f"{path} holds {', '.join(names) or 'nothing'}; save one array, if you like with "
            "`labels`, `files` or `index`: np.savez('noise.npz', noise=noise, labels=y_train)"
        )
    array, layout = _channels_last(path, next(iter(arrays.values())))
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
        None if sha256 is None else _texts(source, sha256, 1)[0],
        None if index is None else _whole(source, "indices", index, count),
    )


def _of_export(path: Path) -> Saved:
    """Return the content of a folder that `ubench export` wrote, by index."""
    array, labels, sha256 = read_export(path)
    return Saved(array, "[N, H, W, 3]", labels, None, str(path), sha256)


def _drop_companions(arrays: dict[str, NDArray[Any]]) -> None:
    """Take out what `ubench export` writes next to the rows, except their labels and index."""
    if {"index", "protected"} <= arrays.keys():
        for name in ("protected", "class_names", "test_images", "test_labels"):
            arrays.pop(name, None)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file by name; a single one without a name has the name "".

    A file of `torch.save` is read by torch's loader of weights, which calls nothing that the file
    names.

    Raises:
        UserError: an unreadable file, or one of other Python objects.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix in _TORCH and _of_torch(path):
            return _tensors(path)
        loaded = np.load(path, allow_pickle=False, mmap_mode="r")
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            arrays = dict(loaded)
        if all(isinstance(array, np.ndarray) for array in arrays.values()):
            return arrays
        reason = "a zip of files other than .npy"
    except UserError:
        raise
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
        else f"{path} is not a readable array file ({reason}); allowed: .npy, .npz, "
        ".safetensors, .pt"
    )


def _of_torch(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(len(_OLD_TORCH))
    if start == _OLD_TORCH:
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file of `torch.save`: one, a list of equal shapes, or a dict."""
    step = "if you trust its source, load it yourself and save the tensor with np.save"
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds
        other = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds {other[1]}, and only tensors are read" if other else "cannot be read safely"
        raise UserError(f"{path} {what}; {step}") from None
    if isinstance(loaded, list | tuple) and not loaded:
        raise UserError(f"{path} holds an empty list; save the tensor with torch.save")
    if isinstance(loaded, list | tuple):
        shapes = {getattr(one, "shape", None) for one in loaded}
        if len(shapes) > 1:
            raise UserError(f"{path} holds tensors of unequal shapes; save one tensor per image")
        if None not in shapes:
            loaded = loaded[0] if len(loaded) == 1 else torch.stack([*map(_plain, loaded)])
    named = loaded if isinstance(loaded, dict) else {"": loaded}
    for one in named.values():
        if not isinstance(one, torch.Tensor):
            raise UserError(f"{path} holds {type(one).__name__}, not only tensors; {step}")
    return {str(name): _plain(one).numpy() for name, one in named.items()}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().to_dense()
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor  # numpy has no such type


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


def _channels_last(path: Path, array: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Return rows [R, H, W, 3] and the axes that they have in the file."""
    one = array.ndim == 3
    rows = array[None] if one else array
    if rows.ndim != 4 or 3 not in (rows.shape[1], rows.shape[3]):
        raise UserError(
            f"{path} holds {list(array.shape)}; allowed: [N, H, W, 3] or [N, 3, H, W], one row "
            "for each image or class, and [H, W, 3] or [3, H, W] for all images"
        )
    first = rows.shape[3] != 3
    layout = "3, H, W" if first else "H, W, 3"
    return rows.transpose(0, 2, 3, 1) if first else rows, f"[{'' if one else 'N, '}{layout}]"


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
    return _whole(source, "labels", labels, count)


def _whole(source: str, kind: str, values: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return whole numbers, one for each row, as int64 [R]."""
    values = values.reshape(-1)
    try:
        whole = values.astype(np.int64)
        exact = values.dtype.kind == "U" or bool((whole == values).all())
    except ValueError:
        exact = False
    if not exact:
        raise UserError(f"{source}: {kind} must be whole numbers, not {values[0]!s}")
    if len(whole) != count:
        raise UserError(f"{source} has {len(whole)} {kind} for {count} rows; give one per row")
    return whole


def _texts(source: str, files: NDArray[Any], count: int) -> tuple[str, ...]:
    texts = tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        for name in files.reshape(-1).tolist()
    )
    if len(texts) != count:
        raise UserError(f"{source} has {len(texts)} file names for {count} rows; give one per row")
    return texts
