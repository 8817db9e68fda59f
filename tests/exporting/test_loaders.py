"""Exports in the loaders of others: the same pixels, classes and order for each of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_sets import NAMES, poisoned_set
from numpy.typing import NDArray
from torchvision.datasets import ImageFolder

from unlearnable_bench import UserError
from unlearnable_bench.exporting.formats import FORMATS
from unlearnable_bench.exporting.writing import write

POISONED = poisoned_set()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`datasets.load_dataset` without network and with an empty cache."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it uses the network"))

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def of_folder(path: Path, **given: Any) -> Any:
        return datasets.load_dataset(str(path), **given)

    datasets.disable_progress_bars()
    yield of_folder
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(POISONED, tmp_path_factory.mktemp("folder") / "made", "folder")


def check_samples(samples: list[tuple[str, int]], pixels: list[NDArray[Any]]) -> None:
    """Compare what a loader of files gives with the images of the index in the file's name."""
    index = [int(Path(file).stem) for file, _ in samples]
    assert sorted(index) == list(range(120))
    np.testing.assert_array_equal([label for _, label in samples], POISONED.clean.labels[index])
    np.testing.assert_array_equal(np.stack(pixels), POISONED.images[index])


def test_torchvision_reads_the_same_pixels_and_classes(folder: Path) -> None:
    found = ImageFolder(str(folder / "train"))
    assert len(found.classes) == 12
    check_samples(found.samples, [np.asarray(image) for image, _ in found])
    test = ImageFolder(str(folder / "test"))
    assert test.class_to_idx == found.class_to_idx


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_timm_reads_the_same_pixels_and_classes(folder: Path) -> None:
    data = pytest.importorskip("timm.data")
    found = data.ImageDataset(str(folder / "train"))
    names = [found.filename(k, absolute=True) for k in range(len(found))]
    pixels, labels = zip(*(found[k] for k in range(len(found))), strict=True)
    check_samples([*zip(names, labels, strict=True)], [np.asarray(one) for one in pixels])


def test_datasets_reads_the_folder_with_the_right_splits_and_classes(
    folder: Path, load: Any
) -> None:
    """The classes called test, val, train and eval stay within the training images."""
    found = load(folder)
    assert {split: len(part) for split, part in found.items()} == {"train": 120, "test": 24}
    assert found["train"].features["label"].names[:2] == ["00-test", "01-val"]
    files = [Path(image.filename) for image in found["train"]["image"]]
    samples = [(str(k), label) for k, label in zip(files, found["train"]["label"], strict=True)]
    check_samples(samples, [np.asarray(image) for image in found["train"]["image"]])


def test_a_folder_without_its_head_would_mix_splits(
    folder: Path, load: Any, tmp_path: Path
) -> None:
    """Why `README.md` names the files: the class called test would be test images as well."""
    shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("README.md"))
    found = {split: len(part) for split, part in load(tmp_path / "bare").items()}
    assert found != {"train": 120, "test": 24}


def test_datasets_reads_the_parquet_in_order_with_names_and_flags(
    tmp_path: Path, load: Any
) -> None:
    found = load(write(POISONED, tmp_path / "made", "hf"))
    train = found["train"]
    np.testing.assert_array_equal(np.stack([*map(np.asarray, train["image"])]), POISONED.images)
    assert train["label"][:] == POISONED.clean.labels.tolist()
    assert train["index"][:] == list(range(120))
    assert train["protected"][:] == POISONED.protected.tolist()
    names = train.features["label"].names
    assert [names[k] for k in (1, 2, 3, 11)] == ["val", "crane (2)", "crane (3)", NAMES[11]]
    test = POISONED.splits()["test"]
    pixels = np.stack([*map(np.asarray, found["test"]["image"])])
    np.testing.assert_array_equal(pixels, test.images)
    assert not any(found["test"]["protected"])


def test_a_map_that_looks_at_the_pictures_keeps_their_pixels(tmp_path: Path, load: Any) -> None:
    """`datasets` compresses pictures anew if a function saw them; PNG survives it."""
    place = write(POISONED, tmp_path / "made", "hf")
    mapped = load(place, split="train").map(lambda row: {"bright": row["image"].getpixel((0, 0))})
    np.testing.assert_array_equal(np.stack([*map(np.asarray, mapped["image"])]), POISONED.images)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_each_sample_once_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wds = pytest.importorskip("webdataset")
    monkeypatch.setattr("unlearnable_bench.exporting.shards._SAMPLES", 10)
    place = write(POISONED, tmp_path / "img.v2", "webdataset")
    shards = sorted(map(str, place.glob("train-*.tar")))
    assert [Path(name).name for name in shards][9:] == [
        "train-000009.tar",
        "train-000010.tar",
        "train-000011.tar",
    ]
    found = list(wds.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    np.testing.assert_array_equal(np.stack([one["png"] for one in found]), POISONED.images)
    assert [one["cls"] for one in found] == POISONED.clean.labels.tolist()
    assert [one["__key__"] for one in found][:2] == ["000", "001"]
    assert found[1]["json"] == {
        "index": 1,
        "label": int(POISONED.clean.labels[1]),
        "class": NAMES[POISONED.clean.labels[1]],
        "protected": True,
    }


def test_pictures_have_no_orientation_gamma_or_profile(folder: Path) -> None:
    """So that all decoders agree: PNG of these three chunks only."""
    content = next(folder.rglob("train/*/000.png")).read_bytes()
    place, chunks = 8, []
    while place < len(content):
        size = int.from_bytes(content[place : place + 4])
        chunks.append(content[place + 4 : place + 8])
        place += 12 + size
    assert chunks == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("form", list(FORMATS))
def test_the_code_of_the_card_runs(
    form: str, tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load
    pytest.importorskip("webdataset")
    place = write(POISONED, tmp_path / "made", form)
    monkeypatch.chdir(place)
    code = (place / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    found = names["array"] if "array" in names else list(names["train"])
    assert len(found) == 120


def test_a_class_without_test_images_is_refused_since_it_would_renumber_the_rest(
    tmp_path: Path,
) -> None:
    test = POISONED.splits()["test"]
    lacking = test.subset(np.flatnonzero(test.labels != 5))
    with pytest.raises(UserError, match="class 'été' has no test images, so ImageFolder would"):
        write(poisoned_set(test=lacking), tmp_path / "made", "folder")
    assert list(tmp_path.iterdir()) == []
