"""A folder of classes without test images is divided; orientation is applied on demand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlearnable_bench import UserError
from unlearnable_bench.datasets.folder import Folder

SIZES = {"ann": 10, "bob": 5, "cid": 2, "dan": 1}


def write_faces(root: Path) -> None:
    """Write images of one colour: red tells the person, green the image."""
    for person, (name, count) in enumerate(SIZES.items()):
        (root / name).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (8, 8), (person, k, 0)).save(root / name / f"{k}.png")


@pytest.mark.parametrize("inner", ["", "train"])
def test_a_share_of_each_class_becomes_test_images(
    tmp_path: Path, inner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_faces(tmp_path / "faces" / inner)
    data = Folder(path=str(tmp_path / "faces"), test_share=0.2).load()
    assert data.class_names == tuple(SIZES)
    assert np.bincount(data.train.labels).tolist() == [8, 4, 1, 1]
    assert np.bincount(data.test.labels, minlength=4).tolist() == [2, 1, 1, 0]
    pixels = np.concatenate([data.train.images, data.test.images])[:, 0, 0]
    assert {tuple(one) for one in pixels[:, :2].tolist()} == {
        (person, k) for person, count in enumerate(SIZES.values()) for k in range(count)
    }
    for part in (data.train, data.test):
        assert part.images[:, 0, 0, 0].tolist() == part.labels.tolist()
        names = [
            f"{name}/{k}.png"
            for name, k in zip(
                np.array([*SIZES])[part.labels], part.images[:, 0, 0, 1], strict=True
            )
        ]
        assert list(part.files or ()) == names
    err = capsys.readouterr().err
    assert err == "folder:faces: no test images of 1 class (dan)\n"
    again = Folder(path=str(tmp_path / "faces"), test_share=0.2).load()
    assert again.sha256 == data.sha256


def test_test_images_are_drawn_at_random(tmp_path: Path) -> None:
    write_faces(tmp_path)
    data = Folder(path=str(tmp_path), test_share=0.5).load()
    chosen = data.test.images[data.test.labels == 0][:, 0, 0, 1].tolist()
    assert len(chosen) == 5
    assert chosen not in ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [0, 2, 4, 6, 8], [1, 3, 5, 7, 9])


def one_each(root: Path) -> None:
    for name in "ab":
        (root / name).mkdir()
        Image.new("RGB", (8, 8)).save(root / name / "0.png")


def whole(root: Path) -> None:
    for part in ("train", "test"):
        write_faces(root / part)


@pytest.mark.parametrize(
    ("write", "share", "words"),
    [
        (write_faces, 0.0, r"folder\.test_share=0; allowed: above 0 and below 1"),
        (write_faces, 1.0, r"folder\.test_share=1; allowed: above 0 and below 1"),
        (one_each, 0.2, "needs a class of two images or more; the largest class has 1"),
        (whole, 0.2, "has test images in .*/test; leave out folder.test_share, or move them"),
        (write_faces, None, r"if its folders are classes, .*--set folder\.test_share=0\.2"),
        (lambda p: (p / "train").mkdir(), None, r"test images from train/: .*test_share=0\.2"),
        (lambda p: (p / "train-0.tar").touch(), None, "shards are read by webdataset:"),
        (lambda p: (p / "a.tfrecord-00000-of-00001").touch(), None, "TFRecords are read by tfds:"),
        (Path.rmdir, 0.2, "no such folder; images go to"),
        (Path.exists, None, r"no folder .*; images go to train/CLASS/ and test/CLASS/$"),
    ],
    ids=["zero", "one", "single", "both", "none", "no_test", "shards", "tfds", "missing", "empty"],
)
def test_what_cannot_be_divided_is_refused_with_the_next_step(
    tmp_path: Path, write: Callable[[Path], object], share: float | None, words: str
) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match=words) as error:
        Folder(path=str(tmp_path), test_share=share).load()
    assert "\n" not in str(error.value)


def test_labels_in_a_list_are_read_by_another_data_set(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n0.png,cat\n")
    with pytest.raises(UserError, match=r"its labels in train/metadata\.csv; write hf:"):
        Folder(path=str(tmp_path)).load()


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_orientation_is_applied_on_demand(tmp_path: Path, ending: str) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4] = 255  # the upper half is white
    exif = Image.Exif()
    exif[274] = 6  # the right side of what is stored is the lower side of the view
    for part in ("train", "test"):
        for name in "ab":
            file = tmp_path / part / name / f"0.{ending}"
            file.parent.mkdir(parents=True)
            Image.fromarray(picture).save(file, exif=exif)
    lying = Folder(path=str(tmp_path)).load().train.images[0]
    upright = Folder(path=str(tmp_path), upright=True).load().train.images[0]
    assert lying[2, :, 0].min() > 200 or ending == "tif"  # Pillow turns every TIFF
    np.testing.assert_array_equal(upright[:, 5, 0] > 128, np.ones(8, bool))
    np.testing.assert_array_equal(upright[:, 2, 0] > 128, np.zeros(8, bool))


def test_wide_values_stay_readable_upright(tmp_path: Path) -> None:
    values = np.full((8, 8), 0x8000, np.uint16)
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(values).save(tmp_path / part / name / "0.png")
    assert Folder(path=str(tmp_path), upright=True).load().test.images.max() == 0x80
