"""The cache of converted data sets, filled by downloads or from local files."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from platformdirs import user_cache_path

from unlearnable_bench.datasets.notices import notice
from unlearnable_bench.datasets.npz import read_npz, write_npz
from unlearnable_bench.datasets.official import SHA256, TITLES, differences, is_known
from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Data
from unlearnable_bench.storage.damage import set_aside
from unlearnable_bench.storage.seal import check_file

# Training images, test images, size and classes of each downloaded data set.
SHAPES = {
    "cifar10": (50_000, 10_000, 32, 10),
    "cifar100": (50_000, 10_000, 32, 100),
    "svhn": (73_257, 26_032, 32, 10),
}


def cache_folder() -> Path:
    """Return $UBENCH_HOME, or the user's cache folder."""
    home = os.environ.get("UBENCH_HOME")
    return Path(home) if home else user_cache_path("ubench")


def cache_path(name: str) -> Path:
    """Return the cache file of a data set."""
    return cache_folder() / f"{name}.npz"


def downloaded(name: str, fetch: Callable[[Path], Data], *, flip: bool = True) -> Data:
    """Return a data set from its cache file, which is filled by a download if it is missing.

    Args:
        name: name of the data set, a key of `SHAPES`.
        fetch: downloads to an empty folder and returns the data.
        flip: whether training mirrors images.

    Raises:
        UserError: the download fails, or the cache holds data of another shape. Other pixels and
            labels of this shape are reported on stderr.
    """
    cached = cache_path(name)
    if not cached.exists():
        with tempfile.TemporaryDirectory() as folder:
            try:
                data = fetch(Path(folder))
            except Exception as error:  # downloads raise exceptions of many kinds
                raise UserError(
                    f"cannot download {name} ({error}); fill the cache from a file: "
                    f"ubench data import {name} FILE.npz"
                ) from error
            check_shape(data, name, "the download")
            write_npz(data, cached)
    whole = _cached(cached, name, flip=flip)
    if whole is None:
        return downloaded(name, fetch, flip=flip)
    data = whole
    check_shape(data, name, cached)
    if is_known(name) and data.sha256 != SHA256[name]:
        wrong = differences(name, data)
        if wrong:
            notice(
                f"{name}: {cached} is not the official {TITLES[name]}: {', '.join(wrong)} differ; "
                "remove it, and the next run downloads it"
            )
    # Hashed once.
    return replace(data, digest=data.sha256)


def _cached(path: Path, name: str, *, flip: bool) -> Data | None:
    """Return the data of a cache file; a damaged one is set aside."""
    try:
        check_file(path)
    except ValueError as error:
        set_aside(path, error, "the data set is downloaded again")
        return None
    return read_npz(path, name, pad=4, flip=flip)


def check_shape(data: Data, name: str, origin: object) -> None:
    """Refuse data whose shape is not that of the data set.

    Args:
        data: the data.
        name: name of the data set, a key of `SHAPES`.
        origin: source of the data, for the message.

    Raises:
        UserError: another number of images, size or number of classes.
    """
    shape = (len(data.train), len(data.test), data.train.size, len(data.class_names))
    if shape != SHAPES[name]:
        words = "{} training images, {} test images, {} pixels, {} classes"
        raise UserError(
            f"{origin} is not {name}: it has {words.format(*shape)}, "
            f"not {words.format(*SHAPES[name])}; use --dataset npz:FILE for other data"
        )
