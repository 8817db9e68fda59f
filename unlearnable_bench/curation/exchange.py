"""Exchange of results through a URL such as s3://bucket/prefix, without a shared folder.

Each task computes in a folder of its own. It fetches what it needs before, and sends its
checkpoints and results. File names are hashes of everything that determines the content, so they
never collide.
"""

import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unlearnable_bench.curation.contents import KINDS, RECORDS
from unlearnable_bench.curation.transfer import merge
from unlearnable_bench.errors import UserError, one_line
from unlearnable_bench.results import marker
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.disk import refusals_named
from unlearnable_bench.storage.files import scratch

if TYPE_CHECKING:
    from unlearnable_bench.planning.plan import Cell, Probe

_FILE = re.compile(r"([a-z]+)/([0-9a-f]{32})(-[a-z0-9]+)*\.(json|safetensors)")
_PASSING = ("work", "failures")  # removed once a cell is finished
_BUCKETS = {"s3", "gs", "abfs"}  # protocols of object stores, which have no folders


def keys_of(item: "Cell | Probe") -> list[str]:
    """Return the keys of the files that a cell or probe reads or writes."""
    poison = item.poison
    keys = [item.key, poison.key, poison.clean_network_key, poison.trajectory_key]
    reference = getattr(item, "reference_key", None)  # of a probe
    return [*keys, reference] if reference else keys


class Exchange:
    """The files of some keys, in a folder of this machine and under a URL.

    Args:
        url: of any file system that fsspec knows.
        folder: the results folder of this machine.
        keys: keys of the files.

    Raises:
        UserError: no such file system, or its package is missing.
    """

    def __init__(self, url: str, folder: Path, keys: Collection[str]) -> None:
        import fsspec  # noqa: PLC0415 - late, as torch

        self._url, self._folder, self._keys = url, folder, frozenset(keys)
        try:
            self._system, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise UserError(
                f"ray.store={url}: {one_line(error)}; give a URL of fsspec, such as "
                "s3://bucket/prefix (pip install s3fs) or file:///shared/prefix"
            ) from error
        protocol: str | tuple[str, ...] = self._system.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else {*protocol}
        self._sent: dict[str, tuple[int, int]] = {}  # time and size of each file
        self._there: set[str] | None = None  # what others had sent before

    def check(self) -> None:
        """Find out whether the URL can be read and written, before anything is computed.

        Raises:
            UserError: it cannot, e.g. no such bucket, or wrong credentials.
        """
        with self._errors_named():
            self._remote_names()  # first, so that a missing bucket is not made
            self._make_folder(self._root)
            self._system.pipe_file(f"{self._root}/{marker.NAME}", marker.TEXT.encode())

    def fetch(self, *, passing: bool = True) -> None:
        """Copy the files under the URL into the folder.

        Args:
            passing: checkpoints too.

        Raises:
            UserError: the URL cannot be read.
        """
        with self._errors_named():
            for name in self._remote_names():
                if passing or not name.startswith("work/"):
                    path = self._folder / name
                    path.parent.mkdir(exist_ok=True)
                    with refusals_named(path):
                        self._system.get_file(f"{self._root}/{name}", str(path))
                    self._sent[name] = _state(path)

    def send(self) -> None:
        """Copy what is new or has changed in the folder to the URL; remove what is finished.

        Raises:
            UserError: the URL cannot be read or written.
        """
        with self._errors_named():
            self._send()

    def _send(self) -> None:
        found = {
            str(path.relative_to(self._folder)): path
            for path in sorted(self._folder.glob("*/*"), key=_records_last)
        }
        if self._there is None:
            self._there = {*self._remote_names()}
        for name, path in found.items():
            known = name in self._there and name not in self._sent and not name.startswith("work/")
            if self._is_ours(name) and not known:
                try:
                    state = _state(path)
                    if self._sent.get(name) != state:
                        self._put(path, f"{self._root}/{name}")
                        self._sent[name] = state
                except FileNotFoundError:
                    if path.exists():  # the bucket is gone
                        raise
                    continue  # finished meanwhile
        for name in self._sent.keys() - found.keys():
            if name.startswith(_PASSING):
                with suppress(FileNotFoundError):
                    self._system.rm_file(f"{self._root}/{name}")
                del self._sent[name]

    def collect(self) -> None:
        """Merge the results under the URL into the folder, with the checks of `ubench merge`.

        Raises:
            UserError: the URL or a result cannot be read.
        """
        with scratch(self._folder, "exchange") as place:
            ResultsFolder(place, create=True)
            Exchange(self._url, place, self._keys).fetch(passing=False)
            merge(self._folder, place)

    def _put(self, path: Path, target: str) -> None:
        """Copy a file, which others see complete or not at all."""
        self._make_folder(target.rpartition("/")[0])
        if "file" in self._protocols:  # object stores write no half files
            self._system.put_file(str(path), f"{target}.part")
            self._system.mv(f"{target}.part", target)
        else:
            self._system.put_file(str(path), target)

    def _make_folder(self, path: str) -> None:
        if not _BUCKETS & self._protocols:  # s3fs would make the bucket, or fail if it may not
            self._system.makedirs(path, exist_ok=True)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise UserError(
                f"ray.store={self._url}: {type(error).__name__}: {error}; check the bucket or "
                "folder, its endpoint and the credentials, then run the same command again"
            ) from error

    def _remote_names(self) -> list[str]:
        self._system.invalidate_cache()  # of listings, which lack what others have sent since
        start = f"{self._root}/"
        names = [str(one)[len(start) :] for one in self._system.find(self._root)]
        return [name for name in names if self._is_ours(name)]

    def _is_ours(self, name: str) -> bool:
        form = _FILE.fullmatch(name)
        return bool(form and form[1] in (*KINDS, "work") and form[2] in self._keys)


def private_folder() -> "tempfile.TemporaryDirectory[str]":
    """Return a new temporary results folder."""
    place = tempfile.TemporaryDirectory(prefix="ubench-")
    ResultsFolder(Path(place.name), create=True)
    return place


def _records_last(path: Path) -> tuple[bool, str]:
    # A record whose poison is not there yet would have it made again, and one whose networks are
    # not there counts as finished without them.
    return path.parent.name in RECORDS, str(path)


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size
