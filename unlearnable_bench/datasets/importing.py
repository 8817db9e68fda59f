"""Fill the cache of a data set from local files: `ubench data import`."""

import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unlearnable_bench.datasets import cifar10, cifar100, svhn
from unlearnable_bench.datasets.cache import SHAPES, cache_path, check_shape
from unlearnable_bench.datasets.npz import read_npz, write_npz
from unlearnable_bench.datasets.official import SHA256, TITLES, differences, is_known
from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.file_kinds import is_pickle
from unlearnable_bench.images import Data


@dataclass(frozen=True)
class _Edition:
    """The files of a published edition that needs no unpickling.

    Attributes:
        files: names of the files.
        read: reads them from a folder.
        pickled: names of the files of the edition that would have to be unpickled.
        archive: the archive to get instead.
        is_published: checks the files of a folder by their MD5, if the hashes of pixels and labels
            are unknown.
    """

    files: tuple[str, ...]
    read: Callable[[Path], Data]
    pickled: tuple[str, ...] = ()
    archive: str = ""
    is_published: Callable[[Path], bool] | None = None


_EDITIONS = {
    "cifar10": _Edition(
        cifar10.FILES,
        cifar10.read_folder,
        ("data_batch_1", "batches.meta"),
        "cifar-10-binary.tar.gz",
    ),
    "cifar100": _Edition(
        cifar100.FILES, cifar100.read_folder, ("train", "meta"), "cifar-100-binary.tar.gz"
    ),
    "svhn": _Edition(svhn.FILES, svhn.read_folder, is_published=svhn.is_published),
}


def import_data(name: str, source: Path) -> tuple[Path, str]:
    """Fill the cache of a data set from local files.

    Args:
        name: name of the data set, a key of `SHAPES`.
        source: an .npz file; or the published files that need no unpickling: the archive, its
            folder, or one file of the folder.

    Returns:
        Path of the cache file, and whether the data is the official one.

    Raises:
        UserError: an unknown data set, an unreadable file, or other data.
    """
    if name not in SHAPES:
        raise unknown("data set to import", name, SHAPES)
    data, published = _read(name, source)
    check_shape(data, name, source)
    verdict = (
        f"the official {TITLES[name]}, by the MD5 of its files"
        if published
        else _verdict(name, data, source)
    )
    write_npz(data, cache_path(name))
    return cache_path(name), verdict


def _verdict(name: str, data: Data, source: Path) -> str:
    """Return whether data is official, as text.

    Raises:
        UserError: it is not; the message names the arrays that differ.
    """
    title = TITLES[name]
    if not is_known(name):
        return f"not checked, since the hashes of {title}'s pixels and labels are unknown"
    wrong = differences(name, data)
    if wrong:
        raise UserError(
            f"{source} is not the official {title}: {', '.join(wrong)} differ (pixels, labels or "
            "their order); use --dataset npz:FILE for other data"
        )
    if data.sha256 != SHA256[name]:
        return f"the official {title} with other class names, which are part of the keys of results"
    return f"the official {title}"


def _read(name: str, source: Path) -> tuple[Data, bool]:
    """Return the data, and whether its files are known by their MD5."""
    edition = _EDITIONS[name]
    if source.is_dir():
        return _from_folder(name, source, edition)
    if source.is_file() and source.name in edition.files:
        return _from_folder(name, source.parent, edition)
    if source.is_file() and tarfile.is_tarfile(source):
        with tempfile.TemporaryDirectory() as folder, tarfile.open(source) as archive:
            for member in archive:
                inner = Path(member.name).name
                content = archive.extractfile(member) if member.isfile() else None
                if content and inner in (*edition.files, *edition.pickled):
                    with (Path(folder) / inner).open("wb") as file:
                        shutil.copyfileobj(content, file)
            return _from_folder(name, Path(folder), edition, source)
    if source.is_file() and is_pickle(source):
        raise _pickled(name, source, edition)
    return read_npz(source, name), False


def _from_folder(
    name: str, folder: Path, edition: _Edition, source: Path | None = None
) -> tuple[Data, bool]:
    """Read the published files in a folder, or in its only one that has them."""
    source = source or folder
    inside = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    for place in inside:
        missing = [file for file in edition.files if not (place / file).is_file()]
        if not missing:
            data = edition.read(place)
            return data, bool(edition.is_published and edition.is_published(place))
        if any((place / file).is_file() for file in edition.pickled):
            raise _pickled(name, source, edition)
        if len(missing) < len(edition.files):
            raise UserError(f"{source} lacks {', '.join(missing)} of {TITLES[name]}; unpack again")
    raise UserError(
        f"{source} has no files of {TITLES[name]}; give an .npz file, or {', '.join(edition.files)}"
    )


def _pickled(name: str, source: Path, edition: _Edition) -> UserError:
    instead = (
        f"get {edition.archive} of https://www.cs.toronto.edu/~kriz/cifar.html, and: "
        f"ubench data import {name} {edition.archive}"
        if edition.archive
        else f"save its arrays with np.savez, and: ubench data import {name} FILE.npz"
    )
    return UserError(
        f"{source} is a Python pickle, which can run any code and is never read; {instead}"
    )
