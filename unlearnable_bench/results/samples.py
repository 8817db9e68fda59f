"""Samples of a poison for reports: its image quality, some images, and some of its noise.

    strips/KEY.safetensors  clean and poisoned uint8 [16, H, W, 3], labels, numbers of the images
    noise/KEY.safetensors   noise int8 or int16 [256, h, w, 3], levels of 1/255; labels, numbers

KEY is the key of the poison. The choice of images depends only on the labels of the data set, so
that all methods and seeds show the same images.
"""

import json
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from unlearnable_bench.errors import UserError
from unlearnable_bench.images import ImageSet, Labels, Pixels, blocks, on_threads
from unlearnable_bench.poison import change_of, sums_of_squares
from unlearnable_bench.storage import seal
from unlearnable_bench.storage.damage import DamagedError, set_aside
from unlearnable_bench.storage.files import replacing

_STRIP = 16  # images
_NOISE = 256  # images
MEASURED_IMAGES = 1000  # images whose PSNR and SSIM are measured
_CROP = 32  # pixels: height and width of the stored noise
_WINDOW = 7  # pixels: side of the SSIM window, scikit-image's default

_writing = threading.Lock()


@dataclass(frozen=True, eq=False)
class Strip:
    """Some images of a poison.

    Attributes:
        clean: uint8 [n, H, W, 3].
        poisoned: uint8 [n, H, W, 3].
        labels: int64 [n].
        names: class name of each image.
        index: int64 [n], indices of the images in the training set.
    """

    clean: Pixels
    poisoned: Pixels
    labels: Labels
    names: tuple[str, ...]
    index: Labels

    @property
    def noise(self) -> NDArray[np.int16]:
        """Poisoned minus clean images, int16 [n, H, W, 3] in levels of 1/255."""
        return self.poisoned.astype(np.int16) - self.clean.astype(np.int16)


def measure_quality(clean: Pixels, poisoned: Pixels) -> dict[str, float]:
    """Measure the distance of a poison from the clean images.

    Args:
        clean: uint8 [N, H, W, 3].
        poisoned: the same images with their noise.

    Returns:
        linf: largest change of a value in levels of 1/255; l2: largest L2 norm of the change of an
        image, in units of the pixel range; ssim: mean structural similarity, absent for images
        below 3 px; psnr: mean peak signal-to-noise ratio in dB over the changed images, absent if
        none changed; images: number of images in the two means.
    """
    linf, l2 = _largest_change(clean, poisoned)
    index = np.sort(_order(len(clean))[:MEASURED_IMAGES])
    quality = {"linf": linf, "l2": l2, "images": len(index)}
    if not linf:
        return quality | {"ssim": 1.0}
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # noqa: PLC0415

    side = clean.shape[1]
    window = min(_WINDOW, side - (side % 2 == 0))
    settings = {"win_size": window, "channel_axis": 2, "data_range": 255}

    def compare(part: slice) -> tuple[float, float]:
        k = index[part.start]
        one, other = clean[k], poisoned[k]
        # The PSNR of equal images is infinite.
        ratio = (
            peak_signal_noise_ratio(one, other, data_range=255)
            if (one != other).any()
            else math.nan
        )
        return ratio, structural_similarity(one, other, **settings) if window >= 3 else math.nan

    found = on_threads(compare, [slice(k, k + 1) for k in range(len(index))])
    for name, column in zip(("psnr", "ssim"), np.transpose(found), strict=True):
        known = column[~np.isnan(column)]
        if len(known):
            quality[name] = float(known.mean())
    return quality


def _largest_change(clean: Pixels, poisoned: Pixels) -> tuple[float, float]:
    """Return the largest change of a value in levels, and the largest L2 norm of an image."""

    def largest(part: slice) -> tuple[float, float]:
        change = change_of(clean[part], poisoned[part])
        return float(change.max()), float(sums_of_squares(change).max())

    highest, farthest = np.max(on_threads(largest, blocks(clean)), axis=0)
    return float(highest), math.sqrt(farthest) / 255


def write_samples(
    folder: Path | str, key: str, clean: ImageSet, poisoned: Pixels, class_names: Sequence[str]
) -> None:
    """Write the strip and the noise sample of a poison, unless they exist; set damaged ones aside.

    Args:
        folder: the results folder.
        key: key of the poison.
        clean: the training set.
        poisoned: uint8 [N, H, W, 3], the same images with their noise.
        class_names: class names of the data set.

    Raises:
        OSError: a file cannot be written.
    """
    with _writing:  # several threads may have the same poison
        if not _settled(_strip_path(folder, key), read_strip, folder, key):
            index = _spread(clean.labels)[:_STRIP]
            names = [class_names[label] for label in clean.labels[index]]
            _write(
                _strip_path(folder, key),
                {"clean": clean.images[index], "poisoned": poisoned[index]},
                {"index": index, "labels": clean.labels[index]},
                {"key": key, "names": names},
            )
        if not _settled(_noise_path(folder, key), read_noise, folder, key):
            index = _order(len(clean))[:_NOISE]
            start = max(0, (clean.size - _CROP) // 2)
            middle = slice(start, start + _CROP)
            noise = poisoned[index, middle, middle].astype(np.int16)
            noise -= clean.images[index, middle, middle]
            small = noise.min() >= -128 and noise.max() <= 127
            _write(
                _noise_path(folder, key),
                {"noise": noise.astype(np.int8) if small else noise},
                {"index": index, "labels": clean.labels[index]},
                {"key": key, "size": clean.size, "crop": noise.shape[1]},
            )


def read_strip(folder: Path | str, poison_key: str) -> Strip | None:
    """Return some images of a poison, or None if the folder has no strip.

    Raises:
        UserError: the file is damaged; it is not changed.
    """
    path = _strip_path(folder, poison_key)
    found = _read(path, poison_key)
    if found is None:
        return None
    arrays, metadata = found
    try:
        strip = Strip(
            arrays["clean"],
            arrays["poisoned"],
            arrays["labels"],
            tuple(map(str, metadata["names"])),
            arrays["index"],
        )
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    count = len(strip.clean)
    lengths = {len(strip.names), *strip.labels.shape, *strip.index.shape}
    same = strip.clean.shape == strip.poisoned.shape and lengths == {count}
    if not same or not _are_images(strip.clean, np.uint8) or strip.poisoned.dtype != np.uint8:
        raise _damaged(path, "its content is not images")
    return strip


def read_noise(folder: Path | str, poison_key: str) -> NDArray[np.int16] | None:
    """Return a sample of the noise of a poison, or None if the folder has no sample.

    Returns:
        int16 [n, h, w, 3], levels of 1/255: up to 256 images, cropped to the central 32 px.

    Raises:
        UserError: the file is damaged; it is not changed.
    """
    path = _noise_path(folder, poison_key)
    found = _read(path, poison_key)
    if found is None:
        return None
    noise = found[0].get("noise")
    if noise is None or not _are_images(noise, np.int8, np.int16):
        raise _damaged(path, "its content is not noise")
    return noise.astype(np.int16)


def _are_images(array: NDArray[Any], *kinds: type[np.generic]) -> bool:
    return array.dtype in kinds and array.ndim == 4 and array.shape[3] == 3 and len(array) > 0


def _order(count: int) -> Labels:
    """Return the numbers 0..count-1 in a fixed random order.

    It uses raw words of PCG64, which numpy guarantees across versions.
    """
    return np.argsort(np.random.PCG64(0).random_raw(count), kind="stable")


def _spread(labels: Labels) -> Labels:
    """Return image indices in random order: one of each class, then a second of each, ..."""
    order = _order(len(labels))
    rounds = np.empty(len(order), np.int64)
    seen: dict[int, int] = {}
    for place, label in enumerate(labels[order].tolist()):
        rounds[place] = seen[label] = seen.get(label, -1) + 1
    return order[np.argsort(rounds, kind="stable")]


def _write(
    path: Path,
    pictures: dict[str, NDArray[Any]],
    numbers: dict[str, Labels],
    metadata: dict[str, Any],
) -> None:
    arrays = {name: np.ascontiguousarray(array) for name, array in (pictures | numbers).items()}
    try:
        with replacing(path, size=sum(array.nbytes for array in arrays.values())) as temporary:
            about = {"about": json.dumps(metadata), "checksum": seal.PLACEHOLDER}
            save_file(arrays, temporary, about)
            seal.seal_file(temporary)
    except SafetensorError as error:  # an error of the disk
        raise OSError(str(error)) from error


def _read(path: Path, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    if not path.exists():
        return None
    try:
        seal.check_file(path)
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, Any] = json.loads(file.metadata()["about"])
        if metadata["key"] != key:
            raise ValueError(f"its key is {metadata['key']}")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be read ({reason}); check its permissions") from error
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error
    return arrays, metadata


def _damaged(path: Path, reason: object) -> DamagedError:
    return DamagedError(path, reason, "remove it to make reports without it")


def _settled(
    path: Path, read: Callable[[Path | str, str], object], folder: Path | str, key: str
) -> bool:
    """Return whether a sample exists; a damaged one is set aside.

    Raises:
        OSError: it cannot be moved.
    """
    try:
        return read(folder, key) is not None
    except DamagedError as error:
        try:
            set_aside(path, error.reason, "it is written again")
        except UserError as failure:
            raise OSError(str(failure)) from failure
        return False
    except UserError as error:
        raise OSError(str(error)) from error


def _strip_path(folder: Path | str, key: str) -> Path:
    return Path(folder) / "strips" / f"{key}.safetensors"


def _noise_path(folder: Path | str, key: str) -> Path:
    return Path(folder) / "noise" / f"{key}.safetensors"
