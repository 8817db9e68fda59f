"""The built-in data sets: what they hold, in which order, and how the cache is filled."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from unlearnable_bench.contract import Dataset
from unlearnable_bench.datasets import cache, cifar, svhn
from unlearnable_bench.datasets.cifar10 import CIFAR10
from unlearnable_bench.datasets.cifar100 import CIFAR100
from unlearnable_bench.datasets.folder import Folder
from unlearnable_bench.datasets.npz import Npz, read_npz, write_npz
from unlearnable_bench.datasets.shapes import NAMES, Shapes
from unlearnable_bench.datasets.svhn import SVHN
from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Data, ImageSet, Transform


def small_data(train: int = 12, test: int = 6, size: int = 16) -> Data:
    random = np.random.default_rng(0)

    def split(count: int) -> ImageSet:
        images = random.integers(256, size=(count, size, size, 3)).astype(np.uint8)
        return ImageSet(images, np.arange(count) % 3, 3)

    return Data("small", split(train), split(test), ("a", "b", "ç"), Transform(2, flip=True))


def same(one: ImageSet, other: ImageSet) -> bool:
    return (
        one.classes == other.classes
        and np.array_equal(one.images, other.images)
        and np.array_equal(one.labels, other.labels)
    )


def test_npz_reads_back_what_was_written(tmp_path: Path) -> None:
    data = small_data()
    write_npz(data, tmp_path / "new" / "small.npz")
    found = read_npz(tmp_path / "new" / "small.npz", "small")
    assert same(found.train, data.train)
    assert same(found.test, data.test)
    assert found.class_names == data.class_names
    assert found.transform == data.transform
    assert found.sha256 == data.sha256
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["small.npz"]


def test_npz_takes_its_name_from_the_file_and_its_transform_from_options(tmp_path: Path) -> None:
    write_npz(small_data(), tmp_path / "small.npz")
    path = str(tmp_path / "small.npz")
    assert Npz(path=path).load().name == "npz:small"
    assert Npz(path=path).load().transform == (2, True)
    assert Npz(path=path, pad=0, flip=False).load().transform == (0, False)


def test_npz_takes_labels_of_any_integer_type(tmp_path: Path) -> None:
    data = small_data()
    for kind in (np.uint8, np.int32, np.int64):
        np.savez(
            tmp_path / "small.npz",
            x_train=data.train.images,
            y_train=data.train.labels.astype(kind),
            x_test=data.test.images,
            y_test=data.test.labels.astype(kind),
            class_names=np.array(data.class_names),
        )
        assert read_npz(tmp_path / "small.npz", "small").sha256 == data.sha256


def test_the_digest_of_data_depends_on_pixels_labels_names_and_split() -> None:
    data = small_data()

    def changed(
        train: ImageSet = data.train, test: ImageSet = data.test, names: tuple[str, ...] = ()
    ) -> str:
        return Data("other", train, test, names or data.class_names, Transform(0, False)).sha256

    pixels, labels = data.train.images.copy(), data.train.labels.copy()
    pixels[3, 2, 1, 0] ^= 1
    labels[[0, 1]] = labels[[1, 0]]
    assert changed() == data.sha256  # a name or a transform is no content
    digests = {
        data.sha256,
        changed(train=ImageSet(pixels, data.train.labels, 3)),
        changed(train=ImageSet(data.train.images, labels, 3)),
        changed(train=data.test, test=data.train),
        changed(names=("a", "b", "c")),
    }
    assert len(digests) == 5


def test_shapes_are_the_same_pixels_everywhere() -> None:
    data = Shapes(train=60, test=20).load()
    assert data.sha256.startswith("41df36ef18ba72db")
    again = Shapes(train=60, test=20).load()
    assert same(data.train, again.train)
    assert same(data.test, again.test)


def test_shapes_have_balanced_classes_and_both_splits_in_one_form() -> None:
    data = Shapes().load()
    assert data.sha256.startswith("4baa4e01f923331e")
    assert data.class_names == NAMES
    assert (len(data.train), len(data.test), data.train.size, data.test.size) == (1600, 500, 32, 32)
    assert data.transform == (4, True)
    both = np.bincount(data.train.labels) + np.bincount(data.test.labels)
    assert both.tolist() == [210] * 10
    assert np.bincount(data.test.labels).min() > 25
    assert len(np.unique(data.train.images, axis=0)) == 1600


def test_contrast_is_that_of_shape_against_ground() -> None:
    faint, strong = (Shapes(train=20, test=10, contrast=c).load() for c in (0.0, 80.0))
    assert np.array_equal(faint.train.labels, strong.train.labels)
    change = strong.train.images.astype(int) - faint.train.images.astype(int)
    inside = (change != 0).any(-1).mean((1, 2))
    assert (inside > 0.03).all()
    assert (inside < 0.6).all()


def write_folder(root: Path, size: int = 8) -> None:
    colours = {"zebra": 10, "ant": 100, "cow": 200}
    for split in ("train", "test"):
        for name, level in colours.items():
            (root / split / name).mkdir(parents=True)
            for k in (10, 2):
                picture = Image.new("RGB", (size, size), (level, k, 0))
                picture.save(root / split / name / f"{k}.png")


def test_folder_sorts_classes_and_files_and_ignores_other_files(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "readme.md").write_text("no class")
    data = Folder(path=str(tmp_path)).load()
    assert data.class_names == ("ant", "cow", "zebra")
    assert data.name == f"folder:{tmp_path.name}"
    for part in (data.train, data.test):
        assert part.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert part.images[:, 0, 0, 0].tolist() == [100, 100, 200, 200, 10, 10]
        assert part.images[:, 0, 0, 1].tolist() == [10, 2, 10, 2, 10, 2]
    assert data.transform == (1, True)


def test_folder_turns_every_mode_into_rgb_and_squashes_on_demand(tmp_path: Path) -> None:
    write_folder(tmp_path)
    Image.new("L", (8, 8), 77).save(tmp_path / "train" / "ant" / "0.PNG")
    assert Folder(path=str(tmp_path)).load().train.images[0, 0, 0].tolist() == [77, 77, 77]
    Image.new("RGB", (20, 6), (1, 2, 3)).save(tmp_path / "train" / "ant" / "1.png")
    data = Folder(path=str(tmp_path), size=4, pad=0, flip=False).load()
    assert data.train.images.shape == (8, 4, 4, 3)
    assert data.train.images[1, 3, 3].tolist() == [1, 2, 3]
    assert data.transform == (0, False)


def test_a_split_of_a_folder_may_lack_a_class(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for path in (tmp_path / "test" / "cow").iterdir():
        path.unlink()
    (tmp_path / "test" / "cow").rmdir()
    data = Folder(path=str(tmp_path)).load()
    assert data.test.labels.tolist() == [0, 0, 2, 2]
    assert data.test.classes == 3


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


@every_source
def test_import_fills_the_cache(home: Path, web: Web, source: Source, tmp_path: Path) -> None:
    web.serve(source.write)
    data = source.plugin.load()
    write_npz(data, tmp_path / "mine.npz")
    cache.cache_path(source.name).unlink()
    assert cache.import_npz(source.name, tmp_path / "mine.npz") == home / f"{source.name}.npz"
    web.fail()
    found = source.plugin.load()
    assert found.sha256 == data.sha256
    assert (found.name, found.transform) == (source.name, data.transform)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: write_npz(small_data(), path), "12 training images"),
        (lambda _: None, "no file"),
    ],
)
def test_import_refuses_what_is_not_the_data_set(
    home: Path, tmp_path: Path, write: Callable[[Path], None], words: str
) -> None:
    write(tmp_path / "mine.npz")
    with pytest.raises(UserError, match=words):
        cache.import_npz("cifar10", tmp_path / "mine.npz")
    with pytest.raises(UserError, match="unknown data set to import 'shapes'"):
        cache.import_npz("shapes", tmp_path / "mine.npz")
    assert not home.exists()


def test_a_cache_that_is_not_the_data_set_is_refused(home: Path) -> None:
    write_npz(small_data(), home / "cifar10.npz")
    with pytest.raises(UserError, match="is not cifar10: it has 12 training images"):
        CIFAR10().load()
