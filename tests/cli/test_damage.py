"""Folders and files that are none, or damaged: named, and left as they are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import QUICK, Command, arrays, run_tiny
from PIL import Image

from unlearnable_bench import api
from unlearnable_bench.storage.seal import sealed_json


def test_out_that_cannot_be_a_results_folder_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    (workplace / "file").write_text("mine")
    (workplace / "mine").mkdir()
    (workplace / "mine" / "thesis.tex").write_text("mine")
    (workplace / "later").mkdir()
    (workplace / "later" / "ubench.json").write_text('{"kind": "unlearnable-bench", "format": 2}')
    for name in ("file", "mine", "later"):
        message = refused(*run_tiny("--methods", "clean", "--out", name))
        assert name in message
        assert "another" in message
        if name != "later":
            assert name in refused("report", name)


def test_out_below_a_file_is_refused(refused: Callable[..., str]) -> None:
    assert "tiny.npz" in refused(*run_tiny("--methods", "clean", "--out", "tiny.npz/results"))


def test_a_report_that_cannot_be_written_is_refused(refused: Callable[..., str]) -> None:
    assert "nowhere" in refused("report", "results", "--output", "nowhere/table.md")


def test_report_without_records_says_what_to_do(
    refused: Callable[..., str], workplace: Path
) -> None:
    assert "ubench run" in refused("report", "nowhere")
    shutil.rmtree(workplace / "results" / "cells")
    assert "ubench run" in refused("report", "results")


AGAIN = ("run", *QUICK, "--dataset", "npz:tiny.npz", "--set", "sem.steps=2", "--methods", "sem")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "[]",
        lambda _: '{"format": 1}',
        lambda text: text.replace('"format": 2', '"format": 3'),
        lambda text: json.dumps(json.loads(text) | {"test_accuracy": "high"}),
        lambda text: json.dumps(json.loads(text) | {"key": "0" * 32}),
        lambda text: json.dumps(json.loads(text) | {"surprise": 1}),
    ],
)
def test_a_damaged_record_is_left_out_by_reports_and_made_again_by_runs(
    refused: Callable[..., str],
    ubench: Command,
    workplace: Path,
    damage: Callable[[str], str],
) -> None:
    path = min((workplace / "results" / "cells").iterdir())
    whole = json.loads(path.read_text())
    path.write_text(damaged := damage(path.read_text()))
    assert f"{path.name} is damaged" in refused("report", "results")
    result = ubench(*AGAIN, "--out", "results")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert f"{path.name} is damaged" in result.err
    assert (path.parent / "damaged" / path.name).read_text() == damaged
    made = json.loads(path.read_text())
    assert made["epoch_accuracy"] == whole["epoch_accuracy"]
    assert ubench(*AGAIN, "--out", "results").code == 0
    assert ubench("report", "results").code == 0


@pytest.mark.parametrize(
    "change",
    [
        {"poison": {}},
        {"environment": {}},
        {"seconds": {}},
        {"rho_a": "much"},
        {"rho_u": {"norm": "linf", "value": "0.03137"}},
        {"rho_u": {"norm": "l2", "value": "much"}},
        {"rho_a": "l2 1.0"},
        {"identity": {}},
        {"environment": {"device": None}},
        {"seed": 7},
        {"test_accuracy": 250.0},
        {"identity": {"poison": "x"}},
        {"epoch_accuracy": ["high"]},
        {"test_accuracy": float("nan")},
    ],
)
def test_a_record_that_lacks_inner_fields_is_named(
    refused: Callable[..., str], workplace: Path, change: dict[str, Any]
) -> None:
    path = min((workplace / "results" / "cells").iterdir())
    record = json.loads(path.read_text())
    del record["checksum"]
    path.write_text(json.dumps(record | change))
    assert path.name in refused("report", "results")


def test_a_damaged_plan_is_named(refused: Callable[..., str], workplace: Path) -> None:
    (path,) = (workplace / "results" / "plans").iterdir()
    path.write_text("{")
    assert path.name in refused("report", "results", "--plan", path.stem)


def test_a_damaged_poison_is_set_aside_and_generated_again(
    ubench: Command, workplace: Path
) -> None:
    (path,) = (workplace / "results" / "poisons").iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    result = ubench(*AGAIN, "--out", "results", "--rho-a", "1/255")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert path.name in result.err
    assert (path.parent / "damaged" / path.name).read_bytes() == damaged
    assert path.exists()
    frame = api.load_records(workplace / "results")
    assert set(frame[frame["rho_a"] == "1/255"]["attack"]) == {"clean", "sem[steps=2]"}


def test_a_plan_whose_cells_are_no_list_is_damaged(
    refused: Callable[..., str], workplace: Path
) -> None:
    (path,) = (workplace / "results" / "plans").iterdir()
    path.write_text('{"cells": 5}')
    assert f"{path.name} is damaged (cells is not a list)" in refused("report", "results")


def test_damaged_images_are_left_out_of_a_figure(ubench: Command, workplace: Path) -> None:
    (path,) = (workplace / "results" / "strips").iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    figure = ("report", "results", "--report", "images", "--output", "images.png")
    result = ubench(*figure)
    assert result.code == 2
    assert f"{path.name} is damaged" in result.err
    result = ubench(*AGAIN, "--rho-a", "1/255", "--out", "results")
    assert result.code == 2
    assert f"{path.name} is damaged" in result.err
    assert ubench(*figure).code == 0


def test_a_record_of_a_newer_version_is_neither_moved_nor_called_damaged(
    ubench: Command, workplace: Path
) -> None:
    path = min((workplace / "results" / "cells").iterdir())
    fields = json.loads(path.read_text())
    del fields["checksum"]
    newer = sealed_json(fields | {"format": 3, "surprise": 1})
    path.write_text(newer)
    for command in ((*AGAIN, "--out", "results"), ("report", "results")):
        result = ubench(*command)
        assert result.code == 2
        assert f"{path.name} has format 3, this version reads 1 and 2; pip install" in result.err
        assert path.read_text() == newer


def test_a_report_counts_records_without_a_checksum(ubench: Command, workplace: Path) -> None:
    assert ubench("report", "results").err == ""
    for path in (workplace / "results" / "cells").iterdir():
        fields = json.loads(path.read_text())
        del fields["checksum"]
        path.write_text(json.dumps(fields))
    result = ubench("report", "results")
    assert result.code == 0
    assert result.err == "ubench: 2 records of versions before 0.3 without a checksum\n"
    assert not api.load_records(workplace / "results")["checksum"].any()


def test_damaged_pictures_of_the_cache_are_decoded_again_and_named(
    ubench: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UBENCH_HOME", str(workplace / "home"))
    data = arrays(16, 8)
    for split, part in (("train", "train"), ("test", "val")):
        images, labels = data[f"x_{split}"], data[f"y_{split}"]
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = Path("pictures", part, f"n0000000{label}", f"{number}.JPEG")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    asked = ("run", *QUICK, "--dataset", "imagenet-subset:pictures", "--methods", "clean")
    for option in ("classes=4", "size=16", "crop=16"):
        asked = (*asked, "--set", f"imagenet-subset.{option}")
    asked = (*asked, "--dry-run")
    assert ubench(*asked).code == 0
    (decoded,) = Path("home").rglob("train.npy")
    pixels = bytearray(decoded.read_bytes())
    pixels[-1] ^= 1
    decoded.write_bytes(pixels)
    result = ubench(*asked)
    assert result.code == 2
    assert f"{decoded.parent.name} is damaged" in result.err
    assert "decoded again" in result.err
    assert ubench(*asked).code == 0
