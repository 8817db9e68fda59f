"""`.npz` and `.safetensors`: one array of images or noise, and what belongs to each row."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from unlearnable_bench.exporting.content import PoisonedSet, What
from unlearnable_bench.harness.progress import Progress


def _columns(poisoned: PoisonedSet, what: What) -> dict[str, Any]:
    """Return the arrays that both formats hold, all in C order: safetensors reorders others."""
    found: dict[str, Any] = {
        what: np.ascontiguousarray(poisoned.array(what)),
        "labels": poisoned.clean.labels,
        "index": np.arange(len(poisoned)),
        "protected": poisoned.protected,
    }
    if poisoned.test is not None:
        found["test_images"] = np.ascontiguousarray(poisoned.test.images)
        found["test_labels"] = poisoned.test.labels
    return found


def write_npz(poisoned: PoisonedSet, what: What, into: Path, _show: Progress) -> None:
    """Write `images.npz` or `noise.npz`; `sha256` is that of the poisoned images."""
    files = poisoned.clean.files
    texts: dict[str, Any] = {} if files is None else {"files": np.array(files)}
    np.savez(
        into / f"{what}.npz",
        **_columns(poisoned, what),
        **texts,
        class_names=np.array(poisoned.class_names),
        sha256=np.array(poisoned.sha256),
    )


def write_safetensors(poisoned: PoisonedSet, what: What, into: Path, _show: Progress) -> None:
    """Write `images.safetensors` or `noise.safetensors`; class names are in its metadata."""
    metadata = {
        "class_names": json.dumps(poisoned.class_names),
        "sha256": poisoned.sha256,
        "layout": "[N, H, W, 3]",
    }
    path = into / f"{what}.safetensors"
    save_file(_columns(poisoned, what), path, metadata)
    _sort_metadata(path)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata, whose order is random, so that equal exports are equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        file.seek(8)
        file.write(text.ljust(length))


def read_npz(folder: Path, what: What, _count: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the images or the noise of an export, and the labels, in the order of the index."""
    with np.load(folder / f"{what}.npz", allow_pickle=False) as file:
        return file[what], file["labels"]


def read_safetensors(
    folder: Path, what: What, _count: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the images or the noise of an export, and the labels, in the order of the index."""
    found = load_file(folder / f"{what}.safetensors")
    return found[what], found["labels"]


def size(poisoned: PoisonedSet, what: What) -> int:
    """Return the number of bytes of the file, rounded up."""
    test = 0 if poisoned.test is None else poisoned.test.images.nbytes
    return poisoned.array(what).nbytes + test + 600 * len(poisoned) + 100_000
