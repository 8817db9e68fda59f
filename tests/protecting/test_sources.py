"""Which pictures are found, with which class, and what is refused before any work."""

import shutil
from pathlib import Path

import pytest
from photo_files import save

from unlearnable_bench import UserError
from unlearnable_bench.protecting.sources import class_folders, labelled, one_class


def table(root: Path, text: str) -> Path:
    file = root.parent / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_class_folders_are_sorted_by_class_and_name(photos: Path) -> None:
    found = class_folders(photos)
    assert found.class_names == ("cat", "dog")
    assert [p.name for p in found.pictures][5:8] == ["cat/5.png", "cat/a.jpg", "dog/0.png"]
    assert found.counts() == {"cat": 7, "dog": 7}


def test_a_table_gives_the_labels_of_pictures_anywhere_below(tmp_path: Path) -> None:
    root = tmp_path / "flat"
    for name in ("b.png", "a.jpg", "deep/er/c.webp"):
        save(root / name)
    rows = "\ufefffile,label,note\nb.png,owl,x\na.jpg,ant,\ndeep/er/c.webp, owl ,\n"
    found = labelled(root, table(root, rows))
    assert found.class_names == ("ant", "owl")
    names = [(picture.name, picture.label) for picture in found.pictures]
    assert names == [("a.jpg", 0), ("b.png", 1), ("deep/er/c.webp", 1)]


def test_one_person_is_a_folder_or_its_only_folder(tmp_path: Path) -> None:
    save(tmp_path / "me" / "1.png")
    assert one_class(tmp_path / "me").pictures[0].name == "1.png"
    assert one_class(tmp_path).pictures[0].name == "me/1.png"
    assert one_class(tmp_path).class_names == ("me",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("file,label\na.png,x\n", r"no label for 1 picture of .* \(b\.png\); add rows"),
        ("file,label\na.png,x\nb.png,y\nc.png,y\nd.png,y\n", r"2 files that .* lacks \(c\.png, d"),
        ("file,label\na.png,x\nb.png,x\n", r"one class only \(x\); .* --person"),
        ("file;label\na.png;x\n", "holds 'file;label'; separate them by commas, not by semicol"),
        ("file\tlabel\na.png\tx\n", "separate them by commas, not by tabs$"),
        ("name,label\na.png,x\n", "needs the columns file,label .* holds 'name, label'$"),
        ("", "needs the columns file,label in its first line, which holds 'nothing'"),
        ("file,label\n", "has no rows below its headings"),
        ("file,label\na.png,\n", "line 2: file or label is empty"),
        ("file,label\n../a.png,x\n", r"line 2: \.\./a\.png must be a path below the folder"),
        ("file,label\na.png,x\na.png,y\n", "line 3: a\\.png has two labels, x and y"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    root = tmp_path / "flat"
    save(root / "a.png")
    save(root / "b.png")
    with pytest.raises(UserError, match=message):
        labelled(root, table(root, rows))


def test_a_missing_table_is_named(photos: Path) -> None:
    with pytest.raises(UserError, match=r"--labels none\.csv: No such file or directory; give a"):
        labelled(photos, Path("none.csv"))


def test_folders_without_two_classes_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist; give a folder"):
        class_folders(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has 7 pictures outside of class folders .*--labels"):
        class_folders(photos / "cat")
    with pytest.raises(UserError, match="has 2 class folders; omit --person"):
        one_class(photos)
    shutil.rmtree(photos / "dog")
    with pytest.raises(UserError, match=r"has one class only \(cat\); .* add --person"):
        class_folders(photos)
    shutil.rmtree(photos / "cat")
    with pytest.raises(UserError, match="photos has no pictures; they go"):
        class_folders(photos)
    with pytest.raises(UserError, match="photos has no pictures; put those of one person"):
        one_class(photos)


def test_a_class_with_too_few_pictures_is_named(photos: Path) -> None:
    found = class_folders(photos)
    found.need(7, "")
    with pytest.raises(UserError, match=r"class 'cat' of .* has 7 pictures, but eight"):
        found.need(8, "eight are needed")
