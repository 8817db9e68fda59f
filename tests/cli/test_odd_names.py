"""Names and files that no one would choose: one line before any work, or as written."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, Command, arrays, run_tiny

DEEP = {
    "lists": b"[" * 100_000,
    "objects": b'{"a":' * 100_000,
    "in a record": b'{"format": 2, "key": ' + b"[" * 100_000,
}


def test_a_data_set_whose_name_is_no_text_is_refused_before_any_work(
    refused: Callable[..., str], workplace: Path
) -> None:
    name = os.fsdecode(b"n\xff.npz")
    (workplace / "tiny.npz").rename(workplace / name)
    for more in ((), ("--dry-run",)):
        command = ("run", *QUICK, "--methods", "random", "--dataset", f"npz:{name}", *more)
        line = refused(*command, "--out", "out")
        assert "the name of data set 'npz:n\\udcff' is not UTF-8 text" in line


def test_markup_in_names_is_printed_as_written(ubench: Command, workplace: Path) -> None:
    (workplace / "tiny.npz").rename(workplace / "a[b]:x:.npz")
    command = ("run", *QUICK, "--methods", "random", "--dataset", "npz:a[b]:x:.npz")
    result = ubench(*command, "--out", "[bold]o")
    assert (result.code, result.err) == (0, "")
    assert "npz:a[b]:x:" in result.out
    assert "records: [bold]o/cells" in result.out


@pytest.mark.parametrize("kind", DEEP)
def test_a_record_that_is_nested_too_deep_is_damaged(
    ubench: Command, workplace: Path, kind: str
) -> None:
    path = min((workplace / "results" / "cells").iterdir())
    path.write_bytes(DEEP[kind])
    result = ubench("report", "results")
    assert result.code == 2
    assert f"{path.name} is damaged (" in result.err
    assert result.err.endswith("; it is left out\n")
    assert "Small CNN" in result.out


def test_an_empty_marker_is_written_again(ubench: Command, workplace: Path) -> None:
    (workplace / "out").mkdir()
    (workplace / "out" / "ubench.json").touch()
    result = ubench(*run_tiny("--methods", "random", "--no-clean"))
    assert (result.code, result.err) == (0, "")
    assert (workplace / "out" / "ubench.json").stat().st_size


def test_images_too_small_for_a_network_are_refused_before_any_work(
    refused: Callable[..., str], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UBENCH_HOME", str(workplace.parent / f"home of {workplace.name}"))
    small = {name: a[:, :3, :3] if name[0] == "x" else a for name, a in arrays().items()}
    np.savez(workplace / "tiny.npz", **small)
    line = refused(*run_tiny("--methods", "random", "--learners", "resnet18,densenet121"))
    assert line.startswith("ubench: learner 'densenet121' on images of 3 px fails: ")


def test_class_names_that_are_no_text_are_computed_and_reported(
    ubench: Command, workplace: Path
) -> None:
    names = np.array(["red", os.fsdecode(b"gr\xffn"), "blue", "[/b]"])
    np.savez(workplace / "tiny.npz", **arrays() | {"class_names": names})
    assert ubench(*run_tiny("--methods", "random")).code == 0
    result = ubench("report", "out", "--format", "html", "--output", "page.html")
    assert (result.code, result.err) == (0, "")
    assert (workplace / "page.html").stat().st_size
