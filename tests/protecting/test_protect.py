"""Folders are protected whole, resumed, checked, or refused before anything is written."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_files import save
from typer.testing import CliRunner

from unlearnable_bench import Radius, UserError, api
from unlearnable_bench.cli import app
from unlearnable_bench.harness.progress import Silent
from unlearnable_bench.protecting import check as checking
from unlearnable_bench.protecting import protect as protecting
from unlearnable_bench.protecting.check import LOSSLESS, VIEWS, Row, held_out, jpeg_loss, verdict
from unlearnable_bench.protecting.pictures import read
from unlearnable_bench.storage import disk


@pytest.fixture
def short_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch of the check, on pictures of 16 px."""
    monkeypatch.setattr(checking, "_PASSES", 1)
    monkeypatch.setattr(checking, "_LEAST_EPOCHS", 1)
    monkeypatch.setattr(protecting, "_CHECK_SIZE", 16)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def protect(photos: Path, **options: Any) -> protecting.Protected:
    return api.protect(
        photos, options.pop("out", photos.parent / "safe"), device="cpu",
        **{"check": False, "size": 16} | options,
    )  # fmt: skip


def test_every_picture_gets_a_copy_within_the_strength_and_no_original_changes(
    photos: Path,
) -> None:
    before = contents(photos)
    found = protect(photos, strength="5/255")
    assert contents(photos) == before
    assert (found.count, found.written, found.measures.largest) == (14, 14, 5)
    names = {path.relative_to(found.out).as_posix() for path in found.out.rglob("*.*")}
    assert names == {str(Path(name).with_suffix(".png")) for name in before}
    for name in before:
        original, copy = read(photos / name), read((found.out / name).with_suffix(".png"))
        change = copy.pixels.astype(int) - original.pixels
        # Pixels of 20 to 235 leave room for the whole noise; JPEG and WebP spread a little.
        assert np.abs(change).max() == 5
        assert np.mean(np.abs(change) == 5) > 0.95


def test_pictures_of_a_class_share_the_noise_and_classes_differ(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/1"):
        save(tmp_path / "photos" / f"{name}.png", 32, 32, seed=len(name))
    found = protect(tmp_path / "photos")
    noise = {
        name: read(found.out / f"{name}.png").pixels.astype(int)
        - read(tmp_path / "photos" / f"{name}.png").pixels
        for name in ("a/1", "a/2", "b/1")
    }
    assert (noise["a/1"] == noise["a/2"]).all()
    assert (noise["a/1"] != noise["b/1"]).any()
    # Two working pixels of 16 a cell, so 4 of 32, and a tile of two cells.
    assert (noise["a/1"][8:] == noise["a/1"][:-8]).all()
    assert (noise["a/1"][:4, :4] == noise["a/1"][0, 0]).all()


def test_a_second_run_writes_only_what_is_missing_or_changed(photos: Path) -> None:
    out = protect(photos).out
    first = contents(out)
    (out / "cat" / "1.png").unlink()
    (out / "dog" / "b.png").write_bytes(b"cut off")
    again = protect(photos)
    assert again.written == 2
    assert contents(out) == first


def test_an_interrupted_run_resumes(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(protect(photos, out=photos.parent / "whole").out)
    write, done = protecting.pictures.write, []

    def interrupted(*args: Any, **options: Any) -> None:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(write(*args, **options))

    with monkeypatch.context() as patched:
        patched.setattr(protecting.pictures, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            protect(photos)
    assert len(contents(photos.parent / "safe")) == 5
    assert protect(photos).written == 9
    assert contents(photos.parent / "safe") == whole


def test_a_table_and_a_person_are_protected_in_their_own_tree(photos: Path) -> None:
    table = photos.parent / "labels.csv"
    files = sorted(name for name in contents(photos))
    rows = [f"{file},{'x' if k % 2 else 'y'}" for k, file in enumerate(files)]
    table.write_text("\n".join(["file,label", *rows]) + "\n")
    assert protect(photos, labels=table).count == 14
    me = protect(photos / "cat", person=True, out=photos.parent / "me")
    assert sorted(contents(me.out)) == [*(f"{k}.png" for k in range(6)), "a.png"]
    with pytest.raises(UserError, match="--person and --labels exclude each other"):
        protect(photos, labels=table, person=True)


@pytest.mark.usefixtures("short_check")
def test_a_person_is_told_from_other_people_whose_pictures_are_only_read(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = photos.parent / "me"
    for k in range(10):
        save(me / f"{k}.png", seed=50 + k)
    seen: list[tuple[list[int], list[int], bool]] = []
    make_plan = checking.make_plan

    def noted(**options: Any) -> Any:
        plan = make_plan(**options)
        data, poison = plan.data, np.load(options["methods"][-1].partition("file:")[2])
        others = data.train.labels > 0
        same = np.array_equal(data.train.images[others], poison[others])
        changed = not np.array_equal(data.train.images[~others], poison[~others])
        counts = np.bincount(data.train.labels).tolist(), np.bincount(data.test.labels).tolist()
        seen.append((*counts, same and changed))
        return plan

    monkeypatch.setattr(checking, "make_plan", noted)
    before = contents(photos)
    found = protect(
        me, person=True, others=photos, check=True, learners=["small-cnn"],
        out=photos.parent / "me-safe",
    )  # fmt: skip
    assert contents(photos) == before
    assert sorted(contents(found.out)) == [f"{k}.png" for k in range(10)]
    # A fifth of each is held out, and only the person's are tested.
    assert seen == [([8, 6, 6], [2], True)] * len(VIEWS)
    assert "recognised among the pictures of the other people" in found.page.read_text()
    assert "2 held-out originals" in found.page.read_text()


@pytest.mark.usefixtures("short_check")
def test_textures_are_not_tested(photos: Path) -> None:
    found = protect(photos / "cat", person=True, check=True, learners=["small-cnn"])
    # One of seven pictures is held out, so that it is recognised or is not.
    assert {row.clean for row in found.accuracies} <= {0.0, 100.0}
    assert "generated textures, which look like no photograph" in found.page.read_text()


def test_others_that_do_not_fit_are_refused(photos: Path) -> None:
    me = photos.parent / "me"
    save(me / "1.png")
    with pytest.raises(UserError, match="--others goes with --person; class folders"):
        protect(photos, others=me)
    for others in (photos, photos.parent, photos / "cat"):
        with pytest.raises(UserError, match="lie within each other; give other people a folder"):
            protect(photos / "cat", person=True, others=others)
    with pytest.raises(UserError, match="which stays as it is"):
        protect(me, person=True, others=photos, out=photos / "safe")
    save(photos / "owl" / "1.png")
    with pytest.raises(UserError, match=r"class 'owl' of .* has 1 picture, but --others needs 2"):
        protect(me, person=True, others=photos)
    assert sorted(path.name for path in photos.parent.iterdir()) == ["me", "photos"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sme"}, "unknown attack 'sme'; did you mean"),
        ({"method": "cuda"}, "--method cuda: its noise has no largest change of a value"),
        ({"method": "file"}, "--method file: the noise in a file is made for other pictures"),
        ({"strength": "8"}, "'8' is not a radius"),
        ({"strength": "0"}, "--strength 0 changes no picture"),
        ({"check": True, "learners": ["nope"]}, "unknown learner 'nope'"),
        ({"form": "gif"}, "unknown format 'gif'; .*available: jpeg, png, webp"),
        ({"check": True}, r"class 'owl' of .* has 1 picture, but the check needs 5"),
        ({"settings": {"class-tiles.cell": "99"}}, "a tile of 198 px does not fit"),
        (
            {"settings": {"class-tiles.rho_u": "16/255"}},
            r"--set class-tiles\.rho_u: the strength is set by --strength, e\.g\. 16/255",
        ),
        ({"settings": {"sem.steps": "9"}}, "sem"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    photos: Path, options: dict[str, Any], message: str
) -> None:
    save(photos / "owl" / "1.png")
    with pytest.raises(UserError, match=message):
        protect(photos, **options)
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]


def test_a_picture_that_cannot_be_read_is_named_before_anything_is_written(photos: Path) -> None:
    content = (photos / "dog" / "b.webp").read_bytes()
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    (photos / "cat" / "0.png").write_bytes(heic)
    with pytest.raises(UserError, match=r"cat/0\.png is a HEIC picture, whatever its name; conver"):
        protect(photos)
    (photos / "cat" / "0.png").write_bytes((photos / "cat" / "1.png").read_bytes())
    for name, bad in (("dog/b.webp", content[:60]), ("dog/b.webp", b""), ("dog/2.png", b"x")):
        good = (photos / name).read_bytes()
        (photos / name).write_bytes(bad)
        with pytest.raises(UserError, match=re.escape(str(photos / name))):
            protect(photos)
        (photos / name).write_bytes(good)
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]


def test_output_folders_that_are_not_free_are_refused(photos: Path) -> None:
    home = photos.parent
    for out in (photos, photos / "safe", home):
        with pytest.raises(UserError, match=f"--out {out} .*, which stays as it is"):
            protect(photos, out=out)
    for name in ("safe", "safe-report"):
        (home / name).mkdir()
        (home / name / "mine.txt").write_text("x")
        with pytest.raises(UserError, match=rf"{name} is not empty \(it has mine\.txt\)"):
            protect(photos)
        shutil.rmtree(home / name)
    (home / "safe").write_text("x")
    with pytest.raises(UserError, match="safe is a file"):
        protect(photos)
    (home / "safe").unlink()
    assert [path.name for path in home.iterdir()] == ["photos"]


def test_another_run_into_the_same_folder_is_refused(photos: Path) -> None:
    out = protect(photos).out
    with pytest.raises(UserError, match="was protected with another strength; give"):
        protect(photos, strength="4/255")
    (out / "cat" / "mine.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"cat/mine\.png, which this command did not write"):
        protect(photos)
    (out / "cat" / "mine.png").unlink()
    save(photos / "cat" / "new.png")
    with pytest.raises(UserError, match="was made from other pictures; give"):
        protect(photos)


def test_two_pictures_of_one_name_are_refused(photos: Path) -> None:
    save(photos / "cat" / "A.png")
    with pytest.raises(UserError, match=r"cat/A\.png and cat/a\.jpg of .* would both become"):
        protect(photos)


def test_a_disk_without_room_is_named_before_the_work(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(photos)._replace(free=1000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        UserError, match=r"safe needs up to .* kB, and 1 kB are free; free .* kB or"
    ):
        protect(photos)
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]


@pytest.mark.usefixtures("short_check")
def test_the_check_trains_on_files_as_written_and_the_page_shows_it(photos: Path) -> None:
    out = photos.parent / "safe"
    words = ["protect", str(photos), "--out", str(out), "--size", "16", "--format", "jpeg"]
    words += ["--learners", "small-cnn", "--device", "cpu", "--strength", "16/255"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    for which in ("originals", "protected pictures"):
        start = f"trained small-cnn on the {which}, 3x3 mean filter, resized: accuracy "
        assert sum(line.startswith(start) for line in lines) == 1
    assert not re.search("rho_a|-resized|resized-", result.output)
    report = json.loads((photos.parent / "safe-report" / "report.json").read_text())
    assert [row["view"] for row in report["check"]] == [*VIEWS, LOSSLESS]
    assert {row["learner"] for row in report["check"]} == {"small-cnn"}
    assert "The cost of JPEG: accuracy" in result.output
    page = (photos.parent / "safe-report" / "index.html").read_text()
    for text in ("It does not hold against every trainer", "cat/0.jpg", "The cost of JPEG", *VIEWS):
        assert text in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    # A second run finds all cells and pictures.
    again = CliRunner().invoke(app, words)
    assert "14 protected pictures (14 by an earlier run)" in " ".join(again.output.split())
    assert "trained small-cnn" not in again.output


class Labels(Silent):
    """Progress that notes the labels of the loops."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def track(self, label: str, total: int, steps: Iterable[int]) -> Iterator[int]:
        self.seen[label] = total
        yield from steps


@pytest.mark.usefixtures("short_check")
def test_loops_are_called_by_what_they_do(photos: Path) -> None:
    labels = Labels()
    protect(
        photos, check=True, learners=["small-cnn"], method="tue", settings={"tue.sweeps": "1"},
        progress=labels,
    )  # fmt: skip
    assert labels.seen["noise of tue: sweeps"]
    for which in ("originals", "protected pictures"):
        for view in VIEWS:
            assert labels.seen[f"small-cnn on the {which}, {view}: training"]
    assert not [label for label in labels.seen if "seed" in label or "rho_a" in label]


def test_a_fifth_of_each_class_is_held_out() -> None:
    labels = np.repeat([0, 1], [10, 5])
    train, test = held_out(labels, 0)
    assert sorted([*train, *test]) == [*range(15)]
    assert np.bincount(labels[test]).tolist() == [2, 1]
    train, test = held_out(np.repeat([0, 1], [5000, 3000]), 0)
    assert (len(train), len(test)) == (1600, 400)


def rows(*pairs: tuple[float, float], view: str = "resized") -> list[Row]:
    return [Row(view, "net", clean, after) for clean, after in pairs]


def test_the_verdict_follows_the_figures() -> None:
    assert "at least 31 points lower" in verdict(rows((90, 50), (80, 49)), 10, 100)
    assert "partial: accuracy changes by -40 to -5 points" in verdict(
        rows((90, 50), (80, 75)), 10, 100
    )
    assert "no useful protection" in verdict(rows((90, 85)), 10, 100)
    # One of eight pairs is lower, by 33 points: 4 on average.
    assert "no useful protection" in verdict(rows(*[(90, 90)] * 7, (90, 57)), 10, 100)
    assert "too little from the originals" in verdict(rows((19, 10)), 10, 100)
    # JPEG counts for none of it, and half of two classes is guessing.
    jpeg = rows((90, 89), view="JPEG, quality 75, resized")
    assert "at least 40 points" in verdict(rows((90, 50)) + jpeg, 10, 100)
    assert "too little" not in verdict(rows((95, 50)), 2, 100)
    few = verdict(rows((90, 50)), 10, 20)
    assert "at least 40 points lower" in few
    assert "With 20 held-out pictures one of them makes 5 points" in few
    lossless = rows((90, 20), view=LOSSLESS)
    assert "45.0 % instead of 20.0 % for net" in jpeg_loss(rows((90, 45)) + lossless)


def test_other_methods_make_the_noise(photos: Path) -> None:
    found = protect(photos, method="tue", strength=Radius("6/255"), settings={"tue.sweeps": "1"})
    assert found.measures.largest == 6


def test_the_page_of_jpeg_promises_no_bound_of_the_files(photos: Path) -> None:
    found = protect(photos, form="jpeg", out=photos.parent / "jpeg")
    lossless = protect(photos)
    assert found.measures.largest > 8
    assert "no value changes by more than" not in found.page.read_text()
    assert "noise of at most 8 of 255 levels" in found.page.read_text()
    assert "no value changes by more than 8 of 255 levels" in lossless.page.read_text()
