"""Data sets that are downloaded: read as published, cached once, imported, refused when wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import small_data
from scipy.io import savemat

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets import cache, cifar, official, svhn
from unlearnable_bench.datasets.cifar10 import CIFAR10
from unlearnable_bench.datasets.cifar100 import CIFAR100
from unlearnable_bench.datasets.npz import write_npz
from unlearnable_bench.datasets.svhn import SVHN
from unlearnable_bench.errors import UserError


def write_cifar10(folder: Path, rows: int = 2) -> None:
    """Write an edition in which a value tells its file, row, channel and place."""
    folder = folder / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join(f"class{k}" for k in range(10)) + "\n\n")
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    for number, name in enumerate(names):
        labels = [bytes([(number + row) % 10]) for row in range(rows)]
        (folder / name).write_bytes(binary_rows(number, labels))


def write_cifar100(folder: Path) -> None:
    """Write ten and two rows of a coarse label that is 7, and a fine label."""
    folder = folder / "cifar-100-binary"
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{k}" for k in range(100)))
    (folder / "coarse_label_names.txt").write_text("\n".join(f"coarse{k}" for k in range(20)))
    for number, (name, fine) in enumerate(
        {"train.bin": range(90, 100), "test.bin": (3, 5)}.items()
    ):
        (folder / name).write_bytes(binary_rows(number, [bytes([7, label]) for label in fine]))


def binary_rows(number: int, labels: list[bytes]) -> bytes:
    text = b""
    for row, label in enumerate(labels):
        planes = np.zeros((3, 32, 32), np.uint8)
        planes += np.array([10, 20, 30], np.uint8)[:, None, None] + np.uint8(number)
        planes[0, 1, 2] = 200 + row
        text += label + planes.tobytes()
    return text


def write_svhn(folder: Path) -> None:
    """Write ten and two digits whose pixels tell row, column, channel and image."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in (("train", [*range(1, 11)]), ("test", [10, 3])):
        row, column, channel, image = np.ogrid[:32, :32, :3, : len(labels)]
        pixels = (row + 2 * column + 50 * channel + 3 * image).astype(np.uint8)
        content = {"X": pixels, "y": np.array(labels, np.uint8)[:, None]}
        savemat(folder / f"{name}_32x32.mat", content, do_compression=True)


@dataclass(frozen=True)
class Source:
    """A data set that is downloaded, and what stands in for the download."""

    name: str
    plugin: Dataset
    write: Callable[[Path], None]
    classes: int
    flip: bool = True


SOURCES = [
    Source("cifar10", CIFAR10(), write_cifar10, 10),
    Source("cifar100", CIFAR100(), write_cifar100, 100),
    Source("svhn", SVHN(), write_svhn, 10, flip=False),
]
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


def no_download(*_arguments: object, **_named: object) -> None:
    raise OSError("no route\nto host")


class Web:
    """Downloads that write small editions, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.fetched: list[str] = []

    def serve(self, write: Callable[[Path], None]) -> None:
        def download(url: str, folder: str, md5: str) -> None:
            assert len(md5) == 32
            self.fetched.append(url)
            if len(self.fetched) == 1:
                write(Path(folder))

        self._become(download)

    def fail(self) -> None:
        self._become(no_download)

    def _become(self, download: Callable[..., None]) -> None:
        self._patch.setattr(cifar, "download_and_extract_archive", download)
        self._patch.setattr(svhn, "download_url", download)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    return Web(monkeypatch)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and data sets of ten and two images."""
    monkeypatch.setenv("UBENCH_HOME", str(tmp_path / "home"))
    for source in SOURCES:
        monkeypatch.setitem(cache.SHAPES, source.name, (10, 2, 32, source.classes))
        monkeypatch.delitem(official.OFFICIAL, source.name, raising=False)
    return tmp_path / "home"


def test_the_shapes_are_those_of_the_published_data() -> None:
    assert cache.SHAPES == {
        "cifar10": (50_000, 10_000, 32, 10),
        "cifar100": (50_000, 10_000, 32, 100),
        "svhn": (73_257, 26_032, 32, 10),
    }


@pytest.mark.usefixtures("home")
def test_cifar10_is_read_in_order_and_channels_last(web: Web) -> None:
    web.serve(write_cifar10)
    data = CIFAR10().load()
    assert data.class_names == tuple(f"class{k}" for k in range(10))
    assert data.train.labels.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert data.test.labels.tolist() == [5, 6]
    assert data.train.images.shape == (10, 32, 32, 3)
    assert data.train.images[2, 0, 0].tolist() == [11, 21, 31]
    assert data.train.images[3, 1, 2].tolist() == [201, 21, 31]
    assert data.test.images[0, 1, 2].tolist() == [200, 25, 35]
    assert data.transform == (4, True)


@pytest.mark.usefixtures("home")
def test_cifar100_has_the_fine_labels(web: Web) -> None:
    web.serve(write_cifar100)
    data = CIFAR100().load()
    assert data.class_names == tuple(f"fine{k}" for k in range(100))
    assert data.train.labels.tolist() == [*range(90, 100)]
    assert data.test.labels.tolist() == [3, 5]
    assert data.train.images[4, 1, 2].tolist() == [204, 20, 30]
    assert data.test.images[1, 1, 2].tolist() == [201, 21, 31]
    assert data.test.images[1, 5, 5].tolist() == [11, 21, 31]
    assert data.transform == (4, True)


@pytest.mark.usefixtures("home")
def test_svhn_calls_the_digit_0_0_and_is_not_mirrored(web: Web) -> None:
    web.serve(write_svhn)
    data = SVHN().load()
    assert [url.rpartition("/")[2] for url in web.fetched] == ["train_32x32.mat", "test_32x32.mat"]
    assert data.class_names == tuple("0123456789")
    assert data.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert data.test.labels.tolist() == [0, 3]
    for row, column, channel, image in ((0, 0, 0, 0), (3, 7, 1, 2), (31, 1, 2, 9)):
        value = row + 2 * column + 50 * channel + 3 * image
        assert data.train.images[image, row, column, channel] == value
    assert data.transform == (4, False)


@every_source
def test_without_a_network_it_is_said_how_to_fill_the_cache(
    home: Path, web: Web, source: Source
) -> None:
    web.fail()
    words = rf"{source.name} \(no route\nto host\).*ubench data import {source.name} FILE\.npz"
    with pytest.raises(UserError, match=words):
        source.plugin.load()
    assert not home.exists()


@every_source
def test_a_truncated_file_is_not_cached(home: Path, web: Web, source: Source) -> None:
    def write(folder: Path) -> None:
        source.write(folder)
        for path in (*folder.rglob("*.bin"), *folder.rglob("*.mat")):
            path.write_bytes(path.read_bytes()[:-100])

    web.serve(write)
    with pytest.raises(UserError, match=f"cannot download {source.name} "):
        source.plugin.load()
    assert not home.exists()


@every_source
def test_a_download_of_other_counts_is_not_cached(
    home: Path, web: Web, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cache.SHAPES, source.name, (10, 3, 32, source.classes))
    web.serve(source.write)
    with pytest.raises(UserError, match=f"is not {source.name}: .* 2 test images"):
        source.plugin.load()
    assert not home.exists()


@every_source
def test_it_is_downloaded_once(home: Path, web: Web, source: Source) -> None:
    web.serve(source.write)
    first = source.plugin.load()
    web.fail()
    assert source.plugin.load().sha256 == first.sha256
    assert first.name == source.name
    assert first.transform == (4, source.flip)
    assert [path.name for path in home.iterdir()] == [f"{source.name}.npz"]


def test_a_cache_that_is_not_the_data_set_is_refused(home: Path) -> None:
    write_npz(small_data(), home / "cifar10.npz")
    with pytest.raises(UserError, match="is not cifar10: it has 12 training images"):
        CIFAR10().load()
