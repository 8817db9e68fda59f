"""What a folder of images holds besides images is counted in one line, and never becomes data."""

import contextlib
import io
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unlearnable_bench import UserError
from unlearnable_bench.datasets.folder import Folder
from unlearnable_bench.datasets.imagenet_subset import ImageNetSubset
from unlearnable_bench.images import Data

CLASSES = ("ant", "bee", "cow")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of three classes with two training images and one test image each."""
    folder = tmp_path / "pictures"
    for label, name in enumerate(CLASSES):
        for split, count in (("train", 2), ("test", 1)):
            for k in range(count):
                save(folder / split / name / f"{k}.png", 50 * label + k)
    return folder


def save(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, level, level)).save(path)


def load(root: Path) -> Data:
    return Folder(path=str(root)).load()


def line(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Load the folder, whose data must be that of the fixture; return what is printed."""
    data = load(root)
    assert data.class_names == CLASSES
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 50, 51, 100, 101]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") <= 1
    return printed.err


def test_a_folder_of_images_alone_prints_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line(root, capsys) == ""


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", ".thumbs"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("filled", [False, True])
def test_a_hidden_folder_is_no_class(
    root: Path, capsys: pytest.CaptureFixture[str], name: str, split: str, filled: bool
) -> None:
    (root / split / name).mkdir()
    if filled:
        save(root / split / name / "0.png")
    assert f"left out 1 hidden folder ({split}/{name})" in line(root, capsys)


def test_an_empty_folder_is_no_class(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "train" / "empty").mkdir()
    (root / "train" / "old").mkdir()
    (root / "train" / "old" / ".DS_Store").write_text("")
    (root / "test" / "later").mkdir()
    words = "3 class folders without images (train/empty, train/old, test/later)"
    assert words in line(root, capsys)


def test_files_of_a_mac_are_not_images(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(4):
        (root / "train" / "ant" / f"._{k}.png").write_bytes(b"\0\5\26\7")
    words = "4 hidden files (train/ant/._0.png, train/ant/._1.png, train/ant/._2.png, ...)"
    assert words in line(root, capsys)


def test_files_that_are_not_images_are_counted(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "train" / "ant" / "notes.txt").write_text("")
    (root / "train" / "bee" / "IMG_1.HEIC").write_bytes(b"")
    (root / "test" / "cow" / "no-ending").write_bytes(b"")
    words = "(train/ant/notes.txt, train/bee/IMG_1.HEIC, test/cow/no-ending)"
    assert f"3 files that are not images {words}" in line(root, capsys)


def test_images_outside_of_a_class_or_deeper_are_counted(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(root / "train" / "7.png")
    save(root / "train" / "ant" / "more" / "deep" / "8.png")
    save(root / "val" / "ant" / "9.png")
    found = line(root, capsys)
    assert "1 file outside of class folders (train/7.png)" in found
    assert "1 file in a nested folder (train/ant/more/deep/8.png)" in found
    assert "1 folder other than train, test (val)" in found


def test_a_class_without_test_images_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "test" / "bee" / "0.png").unlink()
    (root / "test" / "bee").rmdir()
    assert line(root, capsys) == "folder:pictures: no test images of 1 class (bee)\n"
    assert load(root).test.labels.tolist() == [0, 2]


def test_test_images_of_a_class_that_train_lacks_are_refused(root: Path) -> None:
    save(root / "test" / "emu" / "0.png")
    with pytest.raises(UserError, match=r"of which train has no images: \['emu'\]"):
        load(root)
    (root / "train" / "emu").mkdir()
    with pytest.raises(UserError, match=r"of which train has no images: \['emu'\]"):
        load(root)


@pytest.mark.parametrize("ending", ["pgm", "gif", "jfif", "PBM", "pnm", "Gif"])
def test_every_format_of_images_is_read(
    root: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    path = root / "train" / "cow" / f"z.{ending}"
    kind = {"jfif": "JPEG", "gif": "GIF"}.get(ending.lower(), "PPM")
    mode = "1" if ending == "PBM" else "L"
    Image.new(mode, (8, 8), 255).save(path, kind)
    data = load(root)
    assert capsys.readouterr().err == ""
    assert len(data.train) == 7
    assert data.train.labels[-1] == 2
    assert data.train.images[-1].min() >= 254


def test_a_class_of_files_that_are_not_read_is_refused(root: Path) -> None:
    for k in range(5):
        (root / "train" / "yak").mkdir(exist_ok=True)
        (root / "train" / "yak" / f"{k}.heic").write_bytes(b"")
    words = r"train/yak has no image but 5 files \(0.heic, 1.heic, 2.heic, ...\); convert them"
    with pytest.raises(UserError, match=words):
        load(root)


def test_a_class_whose_images_lie_deeper_is_refused(root: Path) -> None:
    for k in range(4):
        save(root / "train" / "yak" / "images" / f"{k}.png")
    words = r"train/yak has no images but 4 files in folders of its own.*move them up"
    with pytest.raises(UserError, match=words):
        load(root)


names = st.sampled_from(["0.png", "1.PNG", "._0.png", ".DS_Store", "a.txt", "b", "x.heic", "2.pgm"])
places = st.sampled_from(
    ["ant", "bee", "cow", ".git", "ant/deep", "bee/.deep", "", "yak", "@eaDir"]
)


@given(st.lists(st.tuples(places, names), unique=True, max_size=12))
def test_each_file_is_an_image_of_the_data_or_in_the_line(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, str]]
) -> None:
    base = tmp_path_factory.mktemp("any")
    for name in ("ant", "bee"):
        save(base / "train" / name / "9.png")
        save(base / "test" / name / "9.png")
    for place, name in files:
        path = base / "train" / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path, "PPM" if name.endswith("pgm") else "PNG")
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        try:
            data = load(base)
        except UserError as error:
            # A class of which nothing is read is refused with its name and the number of files.
            assert re.search(r"train/(cow|yak) has no image but [0-9]+ file", str(error))  # noqa: PT017
            return
    images = [
        name
        for place, name in files
        if place in {"ant", "bee", "cow", "yak"} and name in {"0.png", "1.PNG", "2.pgm"}
    ]
    assert len(data.train) == 2 + len(images)
    folders = [place for place, _ in files if place in {".git", "@eaDir"}]
    hidden_files = [
        name
        for place, name in files
        if name.startswith(".") and place in {"", "ant", "bee", "cow", "yak"}
    ]
    counts = {
        kind: sum(int(n) for n in re.findall(rf"([0-9]+) {kind}", printed.getvalue()))
        for kind in ("hidden folders?", "hidden files?")
    }
    # Within a class, `.deep` is a hidden folder too.
    within = {place for place, _ in files if place == "bee/.deep"}
    assert counts == {
        "hidden folders?": len({*folders}) + len(within),
        "hidden files?": len(hidden_files),
    }
    others = [
        name
        for place, name in files
        if place in {"ant", "bee", "cow", "yak"} and name in {"a.txt", "b", "x.heic"}
    ]
    found = re.search(r"([0-9]+) files? that (is|are) not", printed.getvalue())
    assert (int(found[1]) if found else 0) == len(others)


def test_a_pipe_is_counted_and_a_broken_link_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(root / "train" / "ant" / "9.png")
    assert "left out 1 special file (train/ant/9.png)" in line(root, capsys)
    (root / "train" / "ant" / "8.png").symlink_to(root / "nowhere.png")
    with pytest.raises(UserError, match=r"ant/8\.png is not a readable image"):
        load(root)


def test_linked_images_and_classes_are_read(
    root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (root / "train" / "cow").rename(tmp_path / "cows")
    (root / "train" / "cow").symlink_to(tmp_path / "cows")
    (root / "train" / "ant" / "1.png").rename(tmp_path / "1.png")
    (root / "train" / "ant" / "1.png").symlink_to(tmp_path / "1.png")
    assert line(root, capsys) == ""


def test_later_frames_are_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [Image.new("L", (8, 8), level) for level in (101, 200, 90)]
    (root / "train" / "cow" / "1.png").unlink()
    frames[0].save(root / "train" / "cow" / "1.gif", save_all=True, append_images=frames[1:])
    assert "left out 1 file's later frames (train/cow/1.gif)" in line(root, capsys)


def test_a_name_with_control_characters_is_printed_without_them(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "train" / "ant" / "\x1b[31m[b]\n.txt").write_text("")
    bad = "\N{REPLACEMENT CHARACTER}"
    assert f"ant/{bad}[31m[b]{bad}.txt" in line(root, capsys)


def test_a_hidden_folder_is_no_class_of_imagenet(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UBENCH_HOME", str(tmp_path / "home"))
    (root / "test").rename(root / "val")
    save(root / "train" / ".ipynb_checkpoints" / "0.png")
    data = ImageNetSubset(path=str(root), classes=3, size=8, crop=8).load()
    assert data.class_names == CLASSES
    assert len(data.train) == 6
    note = "imagenet-subset: left out 1 hidden folder (train/.ipynb_checkpoints)\n"
    assert note in capsys.readouterr().err
