"""Exports: each format keeps pixels, order, labels and flags, and is read back by index."""

import csv
import errno
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_sets import NAMES, poisoned_set
from helpers import make_harness
from safetensors import safe_open

from unlearnable_bench import Radius, UserError
from unlearnable_bench.attacks.file import File
from unlearnable_bench.exporting import reading, writing
from unlearnable_bench.exporting.content import PoisonedSet, What
from unlearnable_bench.exporting.folder import class_folders
from unlearnable_bench.exporting.formats import FORMATS
from unlearnable_bench.exporting.writing import write
from unlearnable_bench.storage.disk import DiskError

POISONED = poisoned_set()
FORMS = [(form, "images") for form in FORMATS] + [("npz", "noise"), ("safetensors", "noise")]


def exported(folder: Path, form: str, what: Any = "images", **changed: Any) -> Path:
    return write(poisoned_set(**changed), folder / "made", form, what)


def card(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "card.json").read_text())
    return found


@pytest.mark.parametrize(("form", "what"), FORMS)
def test_an_export_comes_back_as_a_poison_bit_by_bit(tmp_path: Path, form: str, what: What) -> None:
    place = exported(tmp_path, form, what)
    attack = File(path=str(place)).resolved(POISONED.clean)
    line = attack.check(POISONED.clean)
    assert (
        f"is read as {'poisoned images' if what == 'images' else 'noise'} in 8-bit levels" in line
    )
    assert "order checked: labels agree" in line
    found = attack.generate(POISONED.clean, make_harness())
    np.testing.assert_array_equal(found.images, POISONED.images)


@pytest.mark.parametrize(("form", "what"), FORMS)
def test_equal_exports_are_equal_files(tmp_path: Path, form: str, what: What) -> None:
    found = set()
    for k in range(6):  # safetensors writes its metadata in any order
        place = exported(tmp_path / str(k), form, what)
        files = sorted(path for path in place.rglob("*") if path.is_file())
        found.add(tuple((str(one.relative_to(place)), one.read_bytes()) for one in files))
    assert len(found) == 1


def test_of_two_exports_into_one_folder_at_once_the_second_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card_of = writing.card_of

    def slow(*arguments: Any) -> dict[str, Any]:
        monkeypatch.setattr(writing, "card_of", card_of)
        exported(tmp_path, "npz", levels=7)  # another process, which is done first
        return card_of(*arguments)

    monkeypatch.setattr(writing, "card_of", slow)
    with pytest.raises(UserError, match="made is not empty; choose another folder"):
        exported(tmp_path, "npz")
    assert File(path=str(tmp_path / "made")).fingerprint() == (
        File(path=str(exported(tmp_path / "alone", "npz", levels=7))).fingerprint()
    )
    assert len(list(tmp_path.iterdir())) == 2


def test_each_format_has_one_fingerprint_for_equal_images(tmp_path: Path) -> None:
    prints = [File(path=str(exported(tmp_path / f, f))).fingerprint() for f in ("folder", "npz")]
    other = exported(tmp_path / "other", "npz", levels=7)
    assert prints[0] == prints[1] != File(path=str(other)).fingerprint()


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_the_file_of_arrays_is_read_without_its_card_too(tmp_path: Path, suffix: str) -> None:
    place = exported(tmp_path, suffix) / f"images.{suffix}"
    attack = File(path=str(place))
    assert "labels agree" in attack.check(POISONED.clean)
    poison = attack.generate(POISONED.clean, make_harness())
    np.testing.assert_array_equal(poison.images, POISONED.images)


def test_arrays_hold_labels_index_flags_and_names(tmp_path: Path) -> None:
    with np.load(exported(tmp_path, "npz", "noise") / "noise.npz") as file:
        assert file["noise"].dtype == np.int8
        np.testing.assert_array_equal(
            POISONED.clean.images + file["noise"].astype(int), POISONED.images
        )
        assert file["class_names"].tolist() == list(NAMES)
        np.testing.assert_array_equal(file["labels"], POISONED.clean.labels)
        np.testing.assert_array_equal(file["index"], np.arange(120))
        np.testing.assert_array_equal(file["protected"], np.arange(120) % 3 != 0)
        assert str(file["sha256"]) == POISONED.sha256
        np.testing.assert_array_equal(file["test_images"], POISONED.splits()["test"].images)
    place = exported(tmp_path / "2", "safetensors") / "images.safetensors"
    with safe_open(place, "np") as file:
        assert json.loads(file.metadata()["class_names"]) == list(NAMES)
        np.testing.assert_array_equal(file.get_tensor("images"), POISONED.images)


def test_noise_beyond_seven_bits_keeps_its_sign_and_size(tmp_path: Path) -> None:
    place = exported(tmp_path, "npz", "noise", levels=200)
    with np.load(place / "noise.npz") as file:
        assert file["noise"].dtype == np.int16
        assert file["noise"].min() < -128
        assert file["noise"].max() > 127
    attack = File(path=str(place), rho_u=Radius("255/255"), content="noise")
    found = attack.generate(POISONED.clean, make_harness())
    np.testing.assert_array_equal(found.images, poisoned_set(levels=200).images)


def test_names_of_class_folders_have_one_order_as_text_and_as_numbers() -> None:
    names = class_folders(NAMES)
    assert names[:6] == ["00-test", "01-val", "02-crane", "03-crane", "04-dog-wolf", "05-ete"]
    assert names == sorted(names)
    assert len(class_folders(tuple(map(str, range(100))))) == 100
    assert class_folders(("a" * 300, "..")) == [f"0-{'a' * 60}", "1"]


def test_the_table_of_a_folder_names_each_file(tmp_path: Path) -> None:
    place = exported(tmp_path, "folder")
    rows = list(csv.DictReader((place / "index.csv").read_text().splitlines()))
    assert len(rows) == 144
    label = POISONED.clean.labels[7]
    folder = class_folders(NAMES)[label]
    assert rows[7] == {
        "file": f"train/{folder}/007.png",
        "index": "7",
        "label": str(label),
        "class": NAMES[label],
        "protected": "1",
        "source": "",
    }
    assert {row["protected"] for row in rows[120:]} == {"0"}
    pictures = {str(path.relative_to(place)) for path in place.rglob("*.png")}
    assert pictures == {row["file"] for row in rows}


def test_file_names_of_the_data_set_are_in_the_table_and_the_arrays(tmp_path: Path) -> None:
    files = tuple(f"cat/{k}.jpg" for k in range(120))
    clean = POISONED.clean
    named = type(clean)(clean.images, clean.labels, clean.classes, files)
    rows = exported(tmp_path, "folder", clean=named) / "index.csv"
    assert rows.read_text().splitlines()[3].endswith(",cat/2.jpg")
    place = exported(tmp_path / "2", "npz", clean=named)
    assert "file names agree" in File(path=str(place / "images.npz")).check(named)


def test_the_card_says_what_how_many_and_how_to_cite(tmp_path: Path) -> None:
    place = exported(tmp_path, "npz")
    found = card(place)
    assert found["sha256"] == {"images": POISONED.sha256}
    assert (found["images"], found["protected_images"], found["test_images"]) == (120, 80, 24)
    assert found["classes"] == list(NAMES)
    assert found["cite"]["papers"] == ["https://arxiv.org/abs/1"]
    text = (place / "README.md").read_text()
    assert "80 of 120 carry the noise" in text
    assert "@software{unlearnable_bench," in text
    assert POISONED.sha256 in text


@pytest.fixture(autouse=True)
def _nothing_is_held() -> None:
    reading._held.clear()


def test_a_second_read_decodes_nothing(tmp_path: Path) -> None:
    place = exported(tmp_path, "folder")
    array, _, _ = reading.read_export(place)
    shutil.rmtree(place / "train")
    again, _, _ = reading.read_export(place)
    assert again is array
    assert not again.flags.writeable
    shutil.copy(exported(tmp_path / "2", "folder", levels=7) / "card.json", place / "card.json")
    with pytest.raises(UserError, match="cannot be read"):
        reading.read_export(place)


@pytest.mark.parametrize("form", list(FORMATS))
def test_changed_pixels_are_refused(tmp_path: Path, form: str) -> None:
    place = exported(tmp_path, form)
    other = exported(tmp_path / "other", form, levels=7)
    shutil.copy(place / "card.json", other / "card.json")
    with pytest.raises(UserError, match=r"its images do not match card\.json; export it again"):
        File(path=str(other)).check(POISONED.clean)


def test_a_missing_picture_a_damaged_one_and_a_missing_row_are_refused(tmp_path: Path) -> None:
    place = exported(tmp_path, "folder")
    attack = File(path=str(place))
    picture = next(place.rglob("train/*/005.png"))
    content = picture.read_bytes()
    picture.write_bytes(content[:40])
    with pytest.raises(UserError, match=r"005\.png is not a readable image; export it again"):
        attack.check(POISONED.clean)
    picture.unlink()
    with pytest.raises(UserError, match=r"cannot be read .*005\.png.*export it again"):
        attack.check(POISONED.clean)
    picture.write_bytes(content)
    rows = (place / "index.csv").read_text().splitlines()
    (place / "index.csv").write_text("\n".join(rows[:-30]) + "\n")
    with pytest.raises(UserError, match="does not name each of 120 images once"):
        attack.check(POISONED.clean)


def test_another_order_of_rows_and_files_changes_nothing(tmp_path: Path) -> None:
    place = exported(tmp_path, "folder")
    head, *rows = (place / "index.csv").read_text().splitlines()
    (place / "index.csv").write_text("\n".join([head, *rows[::-1]]) + "\n")
    found = File(path=str(place)).generate(POISONED.clean, make_harness())
    np.testing.assert_array_equal(found.images, POISONED.images)


def test_other_labels_and_another_shape_are_refused(tmp_path: Path) -> None:
    attack, clean = File(path=str(exported(tmp_path, "npz"))), POISONED.clean
    turned = type(clean)(clean.images, (clean.labels + 1) % 12, 12)
    with pytest.raises(UserError, match="the label of 120 of 120 rows is not that of the data set"):
        attack.check(turned)
    with pytest.raises(UserError, match=r"(holds \[120|has 120 rows).*60"):
        attack.check(clean.subset(np.arange(60)))


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}'])
def test_a_damaged_card_is_refused(tmp_path: Path, text: str) -> None:
    place = exported(tmp_path, "npz")
    (place / "card.json").write_text(text)
    with pytest.raises(UserError, match=r"card\.json is not the card of an export .*export again"):
        File(path=str(place)).fingerprint()


def test_a_card_of_a_later_version_is_refused(tmp_path: Path) -> None:
    place = exported(tmp_path, "npz")
    (place / "card.json").write_text(json.dumps(card(place) | {"format": 2}))
    with pytest.raises(UserError, match="another version of ubench"):
        File(path=str(place)).fingerprint()


def test_nothing_is_written_where_something_is(tmp_path: Path) -> None:
    place = exported(tmp_path, "npz")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="made is not empty; choose another folder with --out"):
        write(POISONED, place)
    with pytest.raises(UserError, match=r"card\.json is a file; choose a new folder"):
        write(POISONED, place / "card.json")
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    assert sorted(p.name for p in write(POISONED, tmp_path / "empty").iterdir()) == [
        "README.md",
        "card.json",
        "images.npz",
    ]


def test_a_disk_without_room_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Usage", (), {"free": 50_000})
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: full)
    with pytest.raises(UserError, match=r"made may take .* kB, and 50 kB are free; make room"):
        exported(tmp_path, "npz")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, f"no space for {len(content)} bytes")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(DiskError, match=r"made .* cannot be written: no space left on the disk"):
        exported(tmp_path, "folder")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_card: dict[str, Any]) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "readme_of", fail)
    with pytest.raises(KeyboardInterrupt):
        exported(tmp_path, "folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", list(FORMATS))
def test_the_size_that_is_asked_for_suffices(tmp_path: Path, form: str) -> None:
    place = exported(tmp_path, form)
    files = [path for path in place.rglob("*") if path.is_file()]
    taken = sum(-(-path.stat().st_size // 4096) * 4096 for path in files)
    bound = FORMATS[form].size(POISONED, "images") + 32_768  # card and README
    assert taken <= bound < 4 * taken + 200_000


def test_pictures_of_noise_and_unknown_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="noise has a sign; write it with --to npz or --to"):
        exported(tmp_path, "folder", "noise")
    with pytest.raises(UserError, match="unknown format 'foldr'; did you mean 'folder'"):
        exported(tmp_path, "foldr")


def test_a_class_without_images_is_refused_for_a_folder(tmp_path: Path) -> None:
    clean = POISONED.clean
    labels = np.where(clean.labels == 4, 3, clean.labels)
    lacking = type(clean)(clean.images, labels, 12)
    with pytest.raises(UserError, match="class 'dog/wolf' has no train images, so ImageFolder"):
        exported(tmp_path, "folder", clean=lacking)
    assert list(tmp_path.iterdir()) == []
    one: PoisonedSet = poisoned_set(clean=lacking)
    assert write(one, tmp_path / "made").is_dir()


@pytest.mark.parametrize("form", ["folder", "hf", "webdataset"])
def test_pictures_show_their_progress(tmp_path: Path, form: str) -> None:
    seen: dict[str, list[int]] = {}

    class Noted:
        def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
            for step in steps:
                seen.setdefault(f"{label} of {total}", []).append(step)
                yield step

    write(poisoned_set(), tmp_path / "made", form, progress=Noted())
    assert seen == {
        "writing train images of 120": [*range(120)], "writing test images of 24": [*range(24)],
    }  # fmt: skip
