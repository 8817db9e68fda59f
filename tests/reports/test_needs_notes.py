"""What methods and defenses need beyond labels: notes of tables, and filters of the page."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from page_checks import Opener, panel, rows
from report_cells import cell, near
from report_cells import frame as frame_of

from unlearnable_bench import render
from unlearnable_bench.reports.html import Page as PageReport
from unlearnable_bench.results.frame import load_records
from unlearnable_bench.results.needs import needs_of
from unlearnable_bench.results.store import ResultsFolder

LABELS = {"attack_needs": "labels", "defense_needs": "nothing"}
EARLY = {"defense": "early-stopping", "defense_needs": "clean subset"}
BOTH = {"defense": "jpeg+early-stopping", "defense_needs": "clean subset"}
MINE = {"attack_needs": "undeclared"}


def needing() -> pd.DataFrame:
    return frame_of(
        cell("sem", 10, **LABELS),
        cell("mine", 20, **LABELS | MINE),
        cell("mine", 25, **LABELS | MINE | EARLY),
        cell("sem", 30, **LABELS | EARLY),
        cell("sem", 40, **LABELS | BOTH),
    )


@pytest.mark.parametrize("form", ["markdown", "latex", "html"])
def test_a_table_names_what_needs_more_than_labels(form: str) -> None:
    found = " ".join(str(render(needing(), "defenses", form)).split())
    note = "undeclared (mine); clean subset (Early stopping, JPEG + Early stopping)."
    assert f"Needs beyond labels: {note}" in found


def test_a_note_of_needs_uses_the_names_of_the_table() -> None:
    found = str(render(needing(), "defenses", aliases="mine=Ours"))
    assert "undeclared (Ours)" in found


def test_a_table_whose_methods_need_labels_at_most_has_no_note_of_needs() -> None:
    plain = needing().iloc[:1]
    assert "Needs beyond" not in str(render(plain, "main"))
    assert needs_of(plain.drop(columns=["attack_needs", "defense_needs"])) == ()


def test_plugins_that_are_not_installed_need_something_unknown() -> None:
    assert needs_of(frame_of(cell("gone", 1, **LABELS | {"attack_needs": ""}))) == (
        ("gone", "unknown"),
    )
    combined = frame_of(
        cell("sem", 1, **LABELS | {"defense_needs": "labels+clean pairs"}, defense="x")
    )
    assert needs_of(combined) == (("x", "clean pairs"),)


@pytest.mark.parametrize("report", ["paired", "worst-case"])
def test_comparisons_name_needs_too(report: str) -> None:
    cells = [*near("sem", 10, **LABELS), *near("mine", 20, **LABELS | MINE)]
    cells += [one | EARLY for one in cells]
    found = str(
        render(frame_of(*cells), report, **({"defended": True} if report == "paired" else {}))
    )
    assert "undeclared (mine)" in found
    assert "clean subset (Early stopping)" in found


def test_unfinished_cells_have_the_needs_of_their_labels(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "out", create=True)
    labels: dict[str, Any] = {
        "dataset": "shapes", "attack": "sem[steps=5]", "learner": "small-cnn", "rho_a": "0",
        "defense": "jpeg[quality=5]+early-stopping", "rho_u": "8/255", "protect": 1.0,
        "preset": "smoke", "seed": 0,
    }  # fmt: skip
    folder.write_plan("a" * 8, {"cells": ["b" * 32], "labels": [labels], "created": "1"})
    (row,) = load_records(tmp_path / "out", unfinished=True).to_dict("records")
    assert (row["attack_needs"], row["defense_needs"]) == ("labels", "clean subset")
    assert row["noise_seed"] == 0


def test_the_page_filters_by_needs_and_a_cell_shows_them(
    opened: Opener, frame: pd.DataFrame, tmp_path: Path
) -> None:
    at = tmp_path / "page.html"
    leaking = frame["attack"] == "sem"
    named = frame.assign(attack_needs=frame["attack_needs"].mask(leaking, "clean pairs"))
    at.write_text(PageReport().render(named), encoding="utf-8")
    page = opened(at=at)
    page.get_by_role("group", name="Method needs").get_by_text("clean pairs").check()
    assert rows(page) == ["SEM"]
    assert "attack_needs=clean+pairs" in page.url
    page.locator("#main-1 tbody button").first.click()
    assert "Method needs clean pairs" in " ".join(panel(page).inner_text().split())


def test_the_page_filters_by_noise_seeds_and_names_them(
    opened: Opener, frame: pd.DataFrame, tmp_path: Path
) -> None:
    at = tmp_path / "page.html"
    other = frame["noise_seed"].where(frame["seed"] == 0, 7)
    at.write_text(PageReport().render(frame.assign(noise_seed=other)), encoding="utf-8")
    page = opened(at=at)
    assert "2 noise seeds" in page.locator("#facts").inner_text()
    page.get_by_role("textbox", name="Noise seeds").fill("7")
    # Two of them are clean, which has no noise.
    assert "32 of 61 cells" in page.get_by_role("status").inner_text()
    assert "noise-seeds=7" in page.url
    page.locator("#cells tbody tr").filter(has_text="SEM").first.get_by_role("button").first.click()
    shown = " ".join(panel(page).inner_text().split())
    assert "--no-clean --noise-seeds 7 --seeds 1" in shown
    assert "Noise seed 7 Seed 1" in shown
