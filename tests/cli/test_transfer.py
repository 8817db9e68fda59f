"""Archives of results folders, and merging."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, contents, damage, keys, name_other_pixels
from msgspec.structs import replace

from unlearnable_bench.curation import transfer
from unlearnable_bench.identity import key_of
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS, Robustness
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.seal import sealed_json, unsealed_json


def results(folder: str) -> dict[str, bytes | None]:
    return {
        name: content
        for name, content in contents(Path(folder)).items()
        if not name.startswith("work") and content is not None
    }


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.xz"])
def test_an_archive_merges_into_the_same_folder(ubench: Command, ending: str) -> None:
    assert ubench("archive", "results", f"a{ending}").code == 0
    added = ubench("merge", "copy", f"a{ending}")
    assert (added.code, added.err) == (0, "")
    assert f"a{ending}: added 1 poison, 2 records" in added.out
    assert results("copy") == results("results")
    assert ubench("merge", "copy", f"a{ending}", "results").out.count("added nothing; ") == 2


def test_an_archive_of_records_makes_the_same_table(ubench: Command) -> None:
    assert "2 records" in ubench("archive", "results", "a.tar", "--records-only").out
    assert ubench("merge", "copy", "a.tar").code == 0
    assert not Path("copy/poisons").exists()
    assert ubench("report", "copy").out == ubench("report", "results").out


def test_archives_are_never_overwritten_nor_half_written(
    ubench: Command, refused: Callable[..., str]
) -> None:
    assert "the ending of an archive is one of .tar" in refused("archive", "results", "a.zip")
    assert ubench("archive", "results", "a.tar").code == 0
    assert "exists already" in refused("archive", "results", "a.tar")
    assert "no folder" in refused("archive", "results", "no/a.tar")
    assert "ubench run" in refused("archive", "nowhere", "b.tar")


def test_damaged_files_are_neither_archived_nor_merged(ubench: Command) -> None:
    assert ubench("archive", "results", "whole.tar").code == 0
    path = Path("results/cells", f"{keys()['clean']}.json")
    damage(path)
    archived = ubench("archive", "results", "a.tar")
    assert archived.code == 2
    assert f"{path} is damaged" in archived.err
    assert "1 record," in archived.out
    merged = ubench("merge", "copy", "results")
    assert merged.code == 2
    assert [*keys("copy")] == ["sem[steps=2]"]
    # A damaged one of the target gives way to a sound one.
    mended = ubench("merge", "results", "whole.tar")
    assert mended.code == 2
    assert "moved to results/cells/damaged" in mended.err
    assert {*keys()} == {"clean", "sem[steps=2]"}


def test_a_result_that_differs_is_named_and_kept(ubench: Command) -> None:
    shutil.copytree("results", "other")
    path = Path("other/cells", f"{keys()['clean']}.json")
    fields = json.loads(unsealed_json(path.read_bytes())[0])
    changed = fields["test_accuracy"] / 2
    fields |= {"test_accuracy": changed, "epoch_accuracy": [changed], "peak_accuracy": changed}
    path.write_text(sealed_json(fields))
    before = results("results")
    found = ubench("merge", "results", "other")
    assert found.code == 2
    assert f"the other {changed:.2f} %" in found.err
    assert results("results") == before


def test_a_difference_is_named_before_the_next_source_is_refused(ubench: Command) -> None:
    shutil.copytree("results", "other")
    name_other_pixels(Path("other/cells", f"{keys()['clean']}.json"))
    found = ubench("merge", "results", "other", "nowhere")
    assert found.code == 2
    first, second = found.err.splitlines()
    assert "was trained on other pixels" in first
    assert "no folder or archive nowhere" in second


def test_a_record_of_a_newer_version_is_not_called_damaged(ubench: Command) -> None:
    path = Path("results/cells", f"{keys()['clean']}.json")
    fields = json.loads(unsealed_json(path.read_bytes())[0])
    path.write_text(sealed_json(fields | {"format": 9}))
    for command in (("archive", "results", "a.tar"), ("merge", "into", "results")):
        found = ubench(*command)
        assert found.code == 2
        assert "pip install -U unlearnable-bench" in found.err
        assert "damaged" not in found.err


def a_measurement() -> Robustness:
    measured = {"surrogate_loss": 1.0, "surrogate_accuracy": 50.0, "noise_loss": 1.0}
    (sem,) = (r for r in ResultsFolder(Path("results")).records() if r.attack.startswith("sem"))
    identity = {"poison": sem.identity["poison"], "rho_a": "4/255"}
    return Robustness(
        format=1, key=key_of(identity), identity=identity, environment={}, created="2026",
        poison=sem.poison["key"], rho_a="4/255", noise_accuracy=50.0, seconds={}, **measured,
    )  # fmt: skip


def test_other_pixels_and_other_measurements_are_named_too(ubench: Command) -> None:
    (sem,) = (r for r in ResultsFolder(Path("results")).records() if r.attack.startswith("sem"))
    one = a_measurement()
    MEASURED_ROBUSTNESS.write(Path("results"), one)
    shutil.copytree("results", "other")
    path = Path("other/robustness", f"{one.key}.json")
    path.unlink()
    MEASURED_ROBUSTNESS.write(Path("other"), replace(one, created="2027", seconds={"work": 1.0}))
    assert ubench("merge", "results", "other").code == 0
    path.unlink()
    MEASURED_ROBUSTNESS.write(Path("other"), replace(one, surrogate_loss=9.0))
    name_other_pixels(Path("other/cells", f"{sem.key}.json"))
    found = ubench("merge", "results", "other")
    assert found.code == 2
    assert (
        f"{sem.key}.json was trained on other pixels than the other; it is unchanged" in found.err
    )
    assert f"{one.key}.json has other figures than that of other; it is unchanged" in found.err


def test_a_measurement_that_failed_in_one_folder_only_has_succeeded(ubench: Command) -> None:
    one = a_measurement()
    for folder, other in (("done", "failed"), ("failed", "done")):
        shutil.copytree("results", "done")
        MEASURED_ROBUSTNESS.write(Path("done"), one)
        shutil.copytree("results", "failed")
        labels = {"measurement": "robustness"}
        ResultsFolder(Path("failed")).write_failure(one.key, labels, "why", "trace")
        assert ubench("merge", folder, other).code == 0
        assert MEASURED_ROBUSTNESS.has(Path(folder), one.key)
        assert ResultsFolder(Path(folder)).failures() == {}
        shutil.rmtree("done")
        shutil.rmtree("failed")


def test_a_cut_off_archive_and_other_files_are_refused(
    ubench: Command, refused: Callable[..., str], workplace: Path
) -> None:
    assert ubench("archive", "results", "a.tar").code == 0
    whole = Path("a.tar").read_bytes()
    Path("cut.tar").write_bytes(whole[: len(whole) // 2])
    Path("text.tar").write_text("mine")
    Path("into").mkdir()
    ResultsFolder(Path("into"), create=True)
    for name in ("cut.tar", "text.tar", "nowhere.tar"):
        assert name in refused("merge", "into", name)
        assert name in refused("merge", "fresh", name)
        assert not Path("fresh").exists()
    assert "is the folder itself" in refused("merge", "results", workplace / "results")


def test_an_archive_cannot_write_outside_the_folder(ubench: Command) -> None:
    key = "0" * 32
    names = ["../evil.json", "/tmp/evil.json", f"cells/../../{key}.json", f"cells/{key}.json.tmp"]
    with tarfile.open("a.tar", "w") as tar:
        transfer._add(tar, "ubench.json", Path("results/ubench.json").read_bytes())
        for name in names:
            entry = tarfile.TarInfo(name)
            tar.addfile(entry, io.BytesIO(b""))
        link = tarfile.TarInfo(f"cells/{key}.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = contents(Path.cwd().parent)
    found = ubench("merge", "into", "a.tar")
    assert found.code == 2
    assert found.err.count("is no result; it is left out") == len(names) + 1
    after = contents(Path.cwd().parent)
    assert {name for name in after.keys() - before.keys() if "evil" in name or key in name} == set()


def test_a_manifest_shows_what_an_archive_has_lost(ubench: Command) -> None:
    assert ubench("archive", "results", "a.tar").code == 0
    lost = f"cells/{keys()['clean']}.json"
    with tarfile.open("a.tar") as whole, tarfile.open("b.tar", "w") as part:
        for entry in whole:
            if entry.name != lost:
                part.addfile(entry, whole.extractfile(entry))
    found = ubench("merge", "into", "b.tar")
    assert found.code == 2
    assert f"{lost} is missing in b.tar" in found.err
    assert [*keys("into")] == ["sem[steps=2]"]
