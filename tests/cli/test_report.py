"""`ubench report`: what it refuses in one line, and that no name is obeyed by a terminal."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, Command, arrays, run_tiny

from unlearnable_bench.results.store import ResultsFolder

# What a careless program would obey: rich's markup and emoji codes, colours, a window title.
DATA = ":bug:[red]data\x1b[31m\x07"
NOISE = ":bug:[bold]noise\x1b]0;title\x07"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write half of each file, then fail as a full disk does."""
    write = Path.write_bytes

    def fail(self: Path, data: bytes) -> int:
        write(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", fail)


def cells(folder: Path) -> list[Path]:
    return sorted((folder / "cells").iterdir())


def test_an_empty_folder_is_no_results_folder(refused: Callable[..., str], workplace: Path) -> None:
    (workplace / "empty").mkdir()
    assert "empty is not a results folder" in refused("report", "empty")


def test_a_folder_without_cells_has_no_reports(
    refused: Callable[..., str], workplace: Path
) -> None:
    ResultsFolder(workplace / "new", create=True)
    for more in ((), ("--all",)):
        assert "no finished cell to report; run `ubench run` first" in refused(
            "report", "new", *more
        )


def test_one_folder_of_several_that_is_none_is_named(
    refused: Callable[..., str], workplace: Path
) -> None:
    (workplace / "empty").mkdir()
    assert "empty is not a results folder" in refused("report", "results", "empty")
    assert "nowhere is not a results folder" in refused("report", "nowhere", "results")


def test_a_foreign_text_among_the_records_is_no_record(ubench: Command, workplace: Path) -> None:
    before = ubench("report", "results", "--format", "json")
    (workplace / "results" / "cells" / "notes.txt").write_text("mine")
    (workplace / "results" / "cells" / "._0.json").write_bytes(b"\x00\x05\x16\x07")
    assert ubench("report", "results", "--format", "json") == before
    assert before.code == 0


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 1, "mine": true}', "mine", "\x00"])
def test_a_foreign_json_file_among_the_records_is_named(
    refused: Callable[..., str], workplace: Path, text: str
) -> None:
    (workplace / "results" / "cells" / "mine.json").write_text(text)
    assert "mine.json is no record; it is left out" in refused("report", "results")


def test_one_cell_is_a_table_of_one_entry(ubench: Command, workplace: Path) -> None:
    for path in cells(workplace / "results")[1:]:
        path.unlink()
    (record,) = ResultsFolder(workplace / "results").records()
    shutil.rmtree(workplace / "results" / "plans")
    result = ubench("report", "results")
    assert (result.code, result.err) == (0, "")
    rows = [line for line in result.out.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert f"{record.test_accuracy:.1f}" in rows[2]


def test_every_report_of_one_cell_is_written_or_left_out_in_a_line(
    ubench: Command, workplace: Path
) -> None:
    for path in cells(workplace / "results")[1:]:
        path.unlink()
    shutil.rmtree(workplace / "results" / "plans")
    result = ubench("report", "results", "--all", "--output", "new/report")
    written = {path.name for path in (workplace / "new" / "report").iterdir()}
    assert result.code == 0
    assert result.out == f"wrote {len(written)} files to new/report\n"
    assert {"main.tex", "main.md", "main.csv", "main.html", "results.json", "page.html"} <= written
    left_out = re.findall(r"^ubench: skipped ([a-z-]+): .+$", result.err, re.MULTILINE)
    assert len(left_out) == result.err.count("\n")
    assert {"correlation", "paired", "failures"} <= set(left_out)
    assert not {name.partition(".")[0] for name in written} & set(left_out)


@pytest.mark.parametrize(
    ("flag", "value", "known"),
    [
        ("--methods", "nope", "clean, sem[steps=2]"),
        ("--methods", "sem,nope", "clean, sem[steps=2]"),
        ("--methods", "sem[steps=3]", "clean, sem[steps=2]"),
        ("--learners", "nope", "small-cnn"),
        ("--defenses", "nope", "none"),
        ("--datasets", "nope", "npz:tiny"),
        ("--presets", "nope", "smoke[training.epochs=1]"),
        ("--rho-a", "4/255", "0"),
        ("--rho-a", "much", "0"),
        ("--rho-u", "1/255", "0, 8/255"),
        ("--seeds", "7", "0"),
    ],
)
def test_a_value_that_no_record_has_is_refused_with_those_there_are(
    refused: Callable[..., str], flag: str, value: str, known: str
) -> None:
    message = refused("report", "results", flag, value)
    assert repr(value.rpartition(",")[2]) in message
    assert message.endswith(f"available: {known}\n")


def test_an_unknown_report_or_option_is_refused_with_those_there_are(
    refused: Callable[..., str],
) -> None:
    message = refused("report", "results", "--report", "trnsfer")
    assert message.startswith("ubench: unknown report 'trnsfer'; did you mean 'transfer'?")
    message = refused("report", "results", "--set", "digit=2")
    assert "unknown option of main 'digit'; did you mean 'digits'?" in message
    message = refused("report", "results", "--report", "images", "--set", "magnified=2")
    assert "'magnified'; did you mean 'magnify'?" in message
    assert "digits" in refused("report", "results", "--set", "digits=few")
    assert "OPTION=VALUE" in refused("report", "results", "--set", "digits")


def test_a_format_of_another_kind_of_report_is_refused(refused: Callable[..., str]) -> None:
    assert "csv, html, latex" in refused("report", "results", "--report", "main", "--format=pdf")
    assert "omit --format" in refused("report", "results", "--report=json", "--format=latex")
    asked = ("--report", "images", "--output", "images.tex")
    assert "pdf, png, svg" in refused("report", "results", *asked)
    assert "--report" in refused("report", "results", "--output", "main.pdf")


def test_a_figure_is_not_printed(refused: Callable[..., str]) -> None:
    assert "--output images.pdf" in refused("report", "results", "--report", "images")


def test_an_output_in_no_folder_is_refused(refused: Callable[..., str]) -> None:
    message = refused("report", "results", "--output", "nowhere/table.md")
    assert "--output nowhere/table.md: no folder" in message
    assert "--output" in refused("report", "results", "--output", "tiny.npz/table.md")


def test_a_folder_as_the_output_is_refused(refused: Callable[..., str], workplace: Path) -> None:
    (workplace / "tables").mkdir()
    assert "--output tables is a folder" in refused("report", "results", "--output", "tables")


def test_a_file_as_the_output_of_all_reports_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    (workplace / "old.md").write_text("mine")
    message = refused("report", "results", "--all", "--output", "old.md")
    assert "--output old.md is a file" in message


def test_all_reports_take_no_report_format_or_option(refused: Callable[..., str]) -> None:
    for more in (("--report", "main"), ("--format", "latex"), ("--set", "digits=2")):
        assert "omit --report, --format and --set" in refused("report", "x", "--all", *more)


def test_a_folder_that_may_not_be_written_is_refused(
    ubench: Command,
    refused: Callable[..., str],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (workplace / "theirs").mkdir()
    (workplace / "theirs" / "table.md").write_text("theirs")
    make = Path.mkdir

    def denied(self: Path, mode: int = 0o777, *, parents: bool = False, **more: bool) -> None:
        # What the system answers to anyone but a superuser, who may run this test.
        if self.parent.name == "theirs":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        make(self, mode, parents=parents, **more)

    monkeypatch.setattr(Path, "mkdir", denied)
    message = refused("report", "results", "--output", "theirs/table.md")
    assert message == "ubench: --output theirs/table.md: Permission denied\n"
    result = ubench("report", "results", "--all", "--output", "theirs")
    *left_out, message = result.err.splitlines()
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch("ubench: --output theirs/[a-z.-]+: Permission denied", message)
    assert all(line.startswith("ubench: skipped ") for line in left_out)
    assert {path.name for path in (workplace / "theirs").iterdir()} == {"table.md"}


@pytest.mark.usefixtures("full_disk")
def test_an_old_file_outlives_a_write_that_fails(
    refused: Callable[..., str], workplace: Path
) -> None:
    (workplace / "old.tex").write_text("old")
    message = refused("report", "results", "--output", "old.tex")
    assert message.startswith("ubench: old.tex (")
    assert "cannot be written: no space left on the disk" in message
    assert (workplace / "old.tex").read_text() == "old"


def test_a_table_is_not_written_under_the_ending_of_something_else(
    refused: Callable[..., str], workplace: Path
) -> None:
    message = refused("report", "results", "--output", "table.doc")
    assert "--output table.doc: the report is a md file; end the name in .md" in message
    assert not (workplace / "table.doc").exists()


def test_a_file_is_replaced_by_the_format_of_its_ending(ubench: Command, workplace: Path) -> None:
    for ending, form in (
        ("tex", "latex"), ("md", "markdown"), ("csv", "csv"), ("json", "json"), ("txt", "markdown"),
    ):  # fmt: skip
        path = workplace / f"table.{ending}"
        path.write_text("old")
        assert ubench("report", "results", "--output", path.name).code == 0
        assert path.read_text() == ubench("report", "results", "--format", form).out
    named = ("report", "results", "--report", "main")
    assert ubench(*named, "--output", "main.csv").code == 0
    assert (workplace / "main.csv").read_text() == ubench(*named, "--format", "csv").out
    assert ubench("report", "results", "--report", "json", "--output", "json.json").code == 0
    assert json.loads((workplace / "json.json").read_text())


def test_two_folders_are_one_table(ubench: Command) -> None:
    arguments = ("--methods", "random", "--no-clean")
    assert ubench(*run_tiny(*arguments, "--out", "other")).code == 0
    both = ubench("report", "results", "other")
    rows = [line.split("|")[1].strip() for line in both.out.splitlines() if line.startswith("|")]
    assert [name for name in rows[2:] if name != "Method"] == ["Clean", "Random", "SEM (steps=2)"]


@pytest.fixture
def named(ubench: Command, workplace: Path) -> tuple[object, ...]:
    """A run of data and noise whose names a terminal could obey; return its command."""
    found = arrays()
    np.savez(workplace / f"{DATA}.npz", **found)
    noise = np.full(found["x_train"].shape, 4, np.int8)
    np.save(workplace / f"{NOISE}.npy", noise)
    command = ("run", *QUICK, "--dataset", f"npz:{DATA}.npz", "--methods", f"file:{NOISE}.npy")
    assert ubench(*command, "--out", "out").code == 0
    return (*command, "--out", "out")


def test_names_are_printed_as_text_whatever_they_hold(
    ubench: Command, named: tuple[object, ...]
) -> None:
    report = ("report", "out")
    for command in (named, ("compare", "out", "out"), report, (*report, "--all")):
        result = ubench(*command)
        assert result.code == 0, result.err
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.out + result.err)
        assert "\N{BUG}" not in result.out
    shown = ubench(*named).out
    assert "Clean test accuracy (%): npz::bug:[red]data, Small CNN" in shown
    assert "file (path=:bug:[bold]noise.npy)" in shown
    assert "file[path=:bug:[bold]noise.npy]" in ubench("compare", "out", "out").out


def test_the_failure_of_a_named_cell_is_printed_as_text(
    ubench: Command, named: tuple[object, ...], workplace: Path
) -> None:
    np.save(workplace / f"{NOISE}.npy", np.zeros((3, 3), np.int8))
    result = ubench(*named, "--rho-a", "1/255")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert ":bug:[bold]noise" in result.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.err)


def test_failures_are_reported_where_nothing_is_finished(ubench: Command, workplace: Path) -> None:
    folder = ResultsFolder(workplace / "failed", create=True)
    labels = {
        "dataset": "shapes", "attack": "sem", "learner": "small-cnn", "defense": "none",
        "rho_a": "0", "rho_u": "8/255", "protect": 1.0, "preset": "smoke", "seed": 0,
    }  # fmt: skip
    folder.write_plan("a" * 8, {"cells": ["b" * 32], "labels": [labels]})
    folder.write_failure("b" * 32, labels, "the disk is full", "Traceback ...")
    refused = ubench("report", folder.path)
    assert refused.code == 2
    assert "no cell is finished (1 failed (the disk is full), 0 missing)" in refused.err
    shown = ubench("report", folder.path, "--report", "failures")
    assert shown.code == 0
    assert "the disk is full" in shown.out


def test_nothing_is_written_among_records(refused: Callable[..., str], workplace: Path) -> None:
    (record, *_) = (workplace / "results" / "cells").glob("*.json")
    for output in (record, workplace / "results" / "table.md"):
        assert "is in the results folder" in refused("report", "results", "--output", output)
    assert "is in the results folder" in refused(
        "report", "results", "--all", "--output", "results"
    )


def test_folders_that_disagree_on_a_cell_are_named(ubench: Command, workplace: Path) -> None:
    shutil.copytree(workplace / "results", workplace / "other")
    assert "another folder" not in ubench("report", "results", "other").err
    (path, *_) = (workplace / "other" / "cells").glob("*.json")
    record = json.loads(path.read_text())
    del record["checksum"]
    path.write_text(json.dumps(record | {"test_accuracy": record["test_accuracy"] / 2}))
    assert "1 cell has another accuracy" in ubench("report", "results", "other").err
