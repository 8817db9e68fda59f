"""The built-in data sets that are made or read from local files: what they hold, in which order."""

from pathlib import Path

import numpy as np
from helpers import small_data
from PIL import Image

from unlearnable_bench.datasets.folder import Folder
from unlearnable_bench.datasets.npz import Npz, read_npz, write_npz
from unlearnable_bench.datasets.shapes import NAMES, Shapes
from unlearnable_bench.images import Data, ImageSet, Transform


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
