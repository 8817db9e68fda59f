"""`ubench data import` takes published files, and knows the official pixels and labels."""

import hashlib
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import small_data
from test_downloads import SOURCES, Source, every_source, home, no_download  # noqa: F401
from typer.testing import CliRunner

from unlearnable_bench.cli import app
from unlearnable_bench.datasets import cache, cifar, official, svhn
from unlearnable_bench.datasets.importing import import_data
from unlearnable_bench.datasets.npz import write_npz
from unlearnable_bench.datasets.official import Digests
from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Data, ImageSet, Transform

pytestmark = pytest.mark.usefixtures("home")
CIFARS = SOURCES[:2]
every_cifar = pytest.mark.parametrize("source", CIFARS, ids=lambda source: source.name)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "download_and_extract_archive", no_download)
    monkeypatch.setattr(svhn, "download_url", no_download)


def published(source: Source, folder: Path) -> Path:
    """Write the small edition and return the folder that has its files."""
    source.write(folder)
    return next((path for path in folder.iterdir() if path.is_dir()), folder)


def make_official(monkeypatch: pytest.MonkeyPatch, name: str) -> Data:
    """Let the data in the cache be the official data."""
    data = next(source for source in SOURCES if source.name == name).plugin.load()
    digests = {split: official.digests(getattr(data, split)) for split in ("train", "test")}
    monkeypatch.setitem(official.OFFICIAL, name, digests)
    monkeypatch.setitem(official.SHA256, name, data.sha256)
    return data


@every_source
@pytest.mark.parametrize("form", ["folder", "above", "file", "archive", "npz"])
def test_every_form_of_the_published_files_is_imported(
    home: Path,  # noqa: F811
    tmp_path: Path,
    source: Source,
    form: str,
) -> None:
    folder = published(source, tmp_path / "files" / "in")
    given = folder
    if form == "above":
        given = folder.parent
    elif form == "file":
        given = next(path for path in sorted(folder.iterdir()) if path.suffix in (".bin", ".mat"))
    elif form == "archive":
        given = tmp_path / "download.tar.gz"
        with tarfile.open(given, "w:gz") as archive:
            archive.add(folder, "some-name")
    elif form == "npz":
        import_data(source.name, folder)
        given = tmp_path / "mine.npz"
        cache.cache_path(source.name).rename(given)
    path, verdict = import_data(source.name, given)
    assert path == home / f"{source.name}.npz"
    assert verdict.startswith("not checked, since the hashes of")
    data = source.plugin.load()
    assert data.train.labels.tolist() == expected_labels(source)
    assert (data.name, data.transform) == (source.name, (4, source.flip))


def expected_labels(source: Source) -> list[int]:
    return {
        "cifar10": [0, 1, 1, 2, 2, 3, 3, 4, 4, 5],
        "cifar100": [*range(90, 100)],
        "svhn": [1, 2, 3, 4, 5, 6, 7, 8, 9, 0],
    }[source.name]


def test_the_official_digests_are_complete_and_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert {*official.OFFICIAL} == {*official.SHA256} == {"cifar10", "cifar100"}
    splits = [split for name in official.OFFICIAL.values() for split in name.values()]
    texts = [text for split in splits for text in split] + [*official.SHA256.values()]
    assert len({*texts}) == 10
    assert {len(text) for text in texts} == {64}


def test_digests_are_those_of_the_raw_bytes() -> None:
    pixels = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    raw = bytes(range(24)), b"\1" + bytes(7) + b"\0" * 8
    images = ImageSet(pixels, np.array([1, 0]), 2)
    assert official.digests(images) == Digests(*(hashlib.sha256(one).hexdigest() for one in raw))


@every_cifar
def test_official_data_is_called_official(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published(source, tmp_path / "files")
    import_data(source.name, folder)
    make_official(monkeypatch, source.name)
    arguments = ["data", "import", source.name, str(folder)]
    result = CliRunner().invoke(app, arguments)
    title = official.TITLES[source.name]
    assert result.stdout.endswith(f"{source.name}.npz: the official {title}\n")


def shuffled(data: Data) -> Data:
    order = np.random.default_rng(1).permutation(len(data.train))
    return changed(data, train=data.train.subset(order))


def reshaped(data: Data) -> Data:
    """Read channels-first pixels as channels-last ones."""
    planes = np.ascontiguousarray(data.train.images.transpose(0, 3, 1, 2))
    return changed(data, train=data.train.replaced(planes.reshape(data.train.images.shape)))


def swapped_channels(data: Data) -> Data:
    return changed(data, test=data.test.replaced(data.test.images[..., ::-1]))


def relabelled(data: Data) -> Data:
    labels = data.test.labels.copy()
    labels[0] = (labels[0] + 1) % data.test.classes
    return changed(data, test=ImageSet(data.test.images, labels, data.test.classes))


def changed(data: Data, train: ImageSet | None = None, test: ImageSet | None = None) -> Data:
    return Data(data.name, train or data.train, test or data.test, data.class_names, data.transform)


@every_cifar
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shuffled, "train pixels, train labels differ"),
        (reshaped, "train pixels differ"),
        (swapped_channels, "test pixels differ"),
        (relabelled, "test labels differ"),
    ],
)
def test_other_data_of_the_same_shape_is_not_official(
    tmp_path: Path,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Data], Data],
    words: str,
) -> None:
    import_data(source.name, published(source, tmp_path / "files"))
    data = make_official(monkeypatch, source.name)
    before = cache.cache_path(source.name).read_bytes()
    write_npz(change(data), tmp_path / "mine.npz")
    title = official.TITLES[source.name]
    message = f"mine.npz is not the official {title}: {words}.*--dataset npz:FILE"
    with pytest.raises(UserError, match=message):
        import_data(source.name, tmp_path / "mine.npz")
    assert cache.cache_path(source.name).read_bytes() == before


def test_other_class_names_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_data("cifar10", published(SOURCES[0], tmp_path / "files"))
    data = make_official(monkeypatch, "cifar10")
    names = tuple(f"other{k}" for k in range(10))
    other = Data("cifar10", data.train, data.test, names, Transform(4, flip=True))
    write_npz(other, tmp_path / "mine.npz")
    assert "with other class names" in import_data("cifar10", tmp_path / "mine.npz")[1]


@every_cifar
def test_a_cache_of_other_data_is_reported_at_each_load(
    tmp_path: Path,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import_data(source.name, published(source, tmp_path / "files"))
    data = make_official(monkeypatch, source.name)
    source.plugin.load()
    assert capsys.readouterr().err == ""
    write_npz(relabelled(data), cache.cache_path(source.name))
    source.plugin.load()
    title = official.TITLES[source.name]
    assert f"is not the official {title}: test labels differ" in capsys.readouterr().err


@every_cifar
@pytest.mark.parametrize("form", ["folder", "archive", "file", "protocol 0"])
def test_the_python_edition_is_refused_with_the_next_step(
    home: Path,  # noqa: F811
    tmp_path: Path,
    source: Source,
    form: str,
) -> None:
    folder = tmp_path / "python"
    folder.mkdir()
    name = "data_batch_1" if source.name == "cifar10" else "train"
    protocol = 0 if form == "protocol 0" else 2
    (folder / name).write_bytes(pickle.dumps({"labels": [1]}, protocol))
    given = folder if form == "folder" else folder / name
    if form == "archive":
        given = tmp_path / "python.tar.gz"
        with tarfile.open(given, "w:gz") as archive:
            archive.add(folder, "cifar-batches-py")
    with pytest.raises(UserError, match=f"is a Python pickle.*data import {source.name} cifar-10"):
        import_data(source.name, given)
    assert not home.exists()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: write_npz(small_data(), path), "12 training images"),
        (lambda _: None, "no file"),
        (lambda path: path.mkdir(), r"has no files of CIFAR-10; give an \.npz file, or data_batch"),
        (lambda path: path.write_bytes(b"PK\3\4"), "not a readable .npz file"),
    ],
)
def test_what_is_not_the_data_set_is_refused(
    home: Path,  # noqa: F811
    tmp_path: Path,
    write: Callable[[Path], None],
    words: str,
) -> None:
    write(tmp_path / "mine.npz")
    with pytest.raises(UserError, match=words):
        import_data("cifar10", tmp_path / "mine.npz")
    with pytest.raises(UserError, match="unknown data set to import 'shapes'"):
        import_data("shapes", tmp_path / "mine.npz")
    assert not home.exists()


def test_svhn_is_known_by_the_md5_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published(SOURCES[2], tmp_path / "files")
    assert import_data("svhn", folder)[1].startswith("not checked, since the hashes of SVHN's")
    for name in svhn.FILES:
        md5 = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(svhn._MD5, name, md5)
    assert import_data("svhn", folder)[1] == "the official SVHN, by the MD5 of its files"
    with (folder / svhn.FILES[1]).open("ab") as file:
        file.write(b"\0" * 8)
    assert import_data("svhn", folder)[1].startswith("not checked")


def test_an_incomplete_folder_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    folder = published(SOURCES[0], tmp_path / "files")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r"lacks data_batch_3\.bin of CIFAR-10; unpack again"):
        import_data("cifar10", folder)
