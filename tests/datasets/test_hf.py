"""Data sets of Hugging Face: local folders offline, columns, classes, and what is refused."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_sets import NAMES, poisoned_set
from PIL import Image

from unlearnable_bench import Data, UserError, api
from unlearnable_bench.datasets.hf import HuggingFace
from unlearnable_bench.exporting.parquet import unique
from unlearnable_bench.exporting.writing import write

datasets = pytest.importorskip("datasets")
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it uses the network"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield
    datasets.enable_progress_bars()


def saved(folder: Path, columns: dict[str, Any], features: dict[str, Any], **splits: Any) -> Path:
    """Save a data set whose splits have equal columns, as `save_to_disk` does."""
    images = {"image": datasets.Image()} if "image" in columns else {}
    kinds = datasets.Features(images | features)
    part = datasets.Dataset.from_dict(columns, features=kinds)
    names = splits.get("names", ("train", "test"))
    datasets.DatasetDict(dict.fromkeys(names, part)).save_to_disk(str(folder / "saved"))
    return folder / "saved"


CLASSES = {"label": datasets.ClassLabel(names=["cat", "dog"])}
COLUMNS: dict[str, Any] = {"image": list(PIXELS), "label": [0, 1, 0, 1, 1, 0]}


def load(path: Path, **options: Any) -> Data:
    return HuggingFace(path=str(path), **options).load()


def test_an_export_is_read_bit_by_bit_in_order(tmp_path: Path) -> None:
    poisoned = poisoned_set()
    data = load(write(poisoned, tmp_path / "made", "hf"))
    assert data.name == "hf:made"
    assert data.class_names == tuple(unique(NAMES))
    for part, wanted in zip((data.train, data.test), poisoned.splits().values(), strict=True):
        np.testing.assert_array_equal(part.images, wanted.images)
        np.testing.assert_array_equal(part.labels, wanted.labels)
    assert tuple(data.transform) == (1, True)


def test_the_current_folder_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(poisoned_set(), tmp_path / "made", "hf"))
    assert load(Path()).name == "hf:made"


def test_an_export_without_test_images_is_refused_with_the_way_out(tmp_path: Path) -> None:
    place = write(poisoned_set(with_test=False), tmp_path / "made", "hf")
    with pytest.raises(
        UserError, match=r"no split test or validation .* has train; .* --with-test"
    ):
        load(place)


def test_one_split_for_training_and_test_images_is_refused(tmp_path: Path) -> None:
    place = write(poisoned_set(), tmp_path / "made", "hf")
    with pytest.raises(UserError, match=r"both the split train; name another with --set hf\.test="):
        load(place, test="train")


def test_noise_is_made_and_read_back_on_such_data(tmp_path: Path) -> None:
    data = f"hf:{write(poisoned_set(), tmp_path / 'made', 'hf')}"
    plan = api.make_plan(methods=["random"], dataset=data, preset="smoke", clean=False)
    (place,) = api.export(plan, tmp_path / "out", tmp_path / "noise", form="hf", device="cpu")
    again = api.make_plan(methods=[f"file:{place}"], dataset=data, preset="smoke", clean=False)
    assert "order checked: labels agree" in again.remarks[0]


def test_pictures_are_turned_made_rgb_and_lose_transparency(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # shown upright if turned clockwise
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "pictures" / split / label).mkdir(parents=True)
    for split in ("train", "test"):
        place = tmp_path / "pictures" / split
        Image.fromarray(PIXELS[0]).save(place / "a" / "1.png", exif=turned)
        Image.fromarray(PIXELS[1, ..., 0]).save(place / "b" / "2.png")
        clear = np.dstack([PIXELS[2], np.zeros((8, 8), np.uint8)])
        Image.fromarray(clear).save(place / "b" / "3.png")
        Image.fromarray(PIXELS[3, ..., 0].astype(np.uint16) * 256 + 7).save(place / "b" / "4.png")
    data = load(tmp_path / "pictures")
    assert data.class_names == ("a", "b")
    assert data.train.labels.tolist() == [0, 1, 1, 1]
    np.testing.assert_array_equal(data.train.images[0], np.rot90(PIXELS[0], -1))
    for k in (1, 3):
        grey = np.repeat(PIXELS[k, ..., :1], 3, axis=2)
        np.testing.assert_array_equal(data.train.images[k], grey)
    np.testing.assert_array_equal(data.train.images[2], PIXELS[2])


def test_a_saved_data_set_is_read_and_validation_serves_as_test(tmp_path: Path) -> None:
    data = load(saved(tmp_path, COLUMNS, CLASSES, names=("train", "validation")))
    np.testing.assert_array_equal(data.test.images, PIXELS)
    assert data.train.labels.tolist() == COLUMNS["label"]


@pytest.mark.parametrize(
    ("values", "kind", "names", "labels"),
    [
        ([2, 0, 1, 0, 0, 2], "int64", ("0", "1", "2"), [2, 0, 1, 0, 0, 2]),
        (
            ["dog", "cat", "cat", "dog", "a", "cat"],
            "string",
            ("a", "cat", "dog"),
            [2, 1, 1, 2, 0, 1],
        ),
    ],
)
def test_numbers_and_texts_are_classes_too(
    tmp_path: Path, values: list[Any], kind: str, names: tuple[str, ...], labels: list[int]
) -> None:
    place = saved(tmp_path, COLUMNS | {"label": values}, {"label": datasets.Value(kind)})
    data = load(place)
    assert data.class_names == names
    assert data.train.labels.tolist() == labels


def test_of_two_columns_of_classes_one_must_be_named(tmp_path: Path) -> None:
    kinds = {name: datasets.ClassLabel(names=["x", "y"]) for name in ("fine", "coarse")}
    columns = {"image": list(PIXELS), "fine": [0, 1] * 3, "coarse": [1, 1, 1, 0, 0, 0]}
    place = saved(tmp_path, columns, kinds)
    few = "name one of fine, coarse with --set hf.label=COLUMN"
    with pytest.raises(UserError, match=f"has 2 columns of labels, it has image.*{few}"):
        load(place)
    with pytest.raises(UserError, match=f"has no column of labels 'image'.*{few}"):
        load(place, label="image")
    assert load(place, label="coarse").train.labels.tolist() == columns["coarse"]


def test_images_of_unequal_sizes_are_refused_or_resized(tmp_path: Path) -> None:
    odd = [*PIXELS[:5], np.zeros((8, 9, 3), np.uint8)]
    place = saved(tmp_path, COLUMNS | {"image": odd}, CLASSES)
    with pytest.raises(UserError, match=r"image 5 is 9x8, .* is 8x8; resize .* --set hf\.size=64"):
        load(place)
    assert load(place, size=4).train.images.shape == (6, 4, 4, 3)


def test_hidden_labels_missing_images_and_other_columns_are_refused(tmp_path: Path) -> None:
    hidden = saved(
        tmp_path / "1", COLUMNS | {"label": [-1] * 6}, {"label": datasets.Value("int64")}
    )
    with pytest.raises(UserError, match="has the label -1, which is none of 0 classes"):
        load(hidden)
    empty = saved(tmp_path / "2", COLUMNS | {"image": [*PIXELS[:5], None]}, CLASSES)
    with pytest.raises(UserError, match=r"image 5 cannot be read .*; remove its row"):
        load(empty)
    text = {"label": COLUMNS["label"], "text": ["a"] * 6}
    words = saved(tmp_path / "3", text, CLASSES | {"text": datasets.Value("string")})
    with pytest.raises(UserError, match="has no column of images, it has label, text"):
        load(words)


def test_what_is_no_data_set_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is a file; give the folder"):
        load(tmp_path / "file")
    with pytest.raises(UserError, match="no such folder; give a folder, or OWNER/NAME"):
        load(tmp_path / "absent")
    with pytest.raises(UserError, match=r"empty cannot be read \(.*any data files\)$"):
        load(tmp_path / "empty")
    with pytest.raises(UserError, match="write hf:FOLDER"):
        HuggingFace().load()
    part = datasets.Dataset.from_dict({"x": [1]})
    part.save_to_disk(str(tmp_path / "one"))
    with pytest.raises(UserError, match="is one split; save a DatasetDict"):
        load(tmp_path / "one")


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ConnectionError("no route\nto it")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match=r"folder, and the hub does not give it \(no route\)"):
        HuggingFace(path="owner/name").load()


@pytest.mark.parametrize("package", ["datasets", "pyarrow"])
def test_a_missing_package_is_named_with_the_command(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    work = {
        "datasets": lambda: load(tmp_path),
        "pyarrow": lambda: write(poisoned_set(), tmp_path / "made", "hf"),
    }
    with pytest.raises(UserError, match=r"needs .*: pip install 'unlearnable-bench\[hf\]'"):
        work[package]()
    assert list(tmp_path.iterdir()) == []
