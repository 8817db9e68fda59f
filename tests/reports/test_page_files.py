"""The page as a file: hostile names, many cells, changed records, options."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from page_checks import RECORDS, Opener, downloaded, edited, of, panel, rows

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports.html import Page as PageReport
from unlearnable_bench.reports.radius_curves import radius_curves_data
from unlearnable_bench.results.frame import load_records
from unlearnable_bench.results.rendering import make_piece

HOSTILE = {
    "attack": '<img src=x onerror="window.pwned=1">',
    "dataset": "</script><script>window.pwned=1</script>",
    "learner": "=cmd|' /C calc'!A0",
    "defense": "${window.pwned=1}{{data}}",
    "preset": "<!--<script>\u2028'\"",
}


def test_no_name_is_ever_run(opened: Opener, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(RECORDS, folder, ignore=shutil.ignore_patterns("cells", "plans"))
    (folder / "cells").mkdir()

    def hostile(record: dict[str, Any]) -> None:
        record |= HOSTILE
        record["identity"]["labels"] = [HOSTILE[name] for name in ("dataset", "attack", "preset")]
        for kind in ("learner", "defense"):
            record["identity"][kind]["name"] = HOSTILE[kind]
        record["environment"]["device"] = "@SUM(1)"

    for path in RECORDS.glob("cells/*.json"):
        if json.loads(path.read_text())["defense"] == "none":
            edited(path, folder / "cells", hostile)
    at = tmp_path / "page.html"
    at.write_text(PageReport().render(load_records(folder)), encoding="utf-8")
    page = opened(at=at)
    assert rows(page, "cells")[0] == HOSTILE["attack"]
    assert HOSTILE["dataset"] in page.locator("h1").inner_text()
    page.locator("#cells .entry").first.click()
    text = panel(page).inner_text()
    for name in ("learner", "dataset", "attack"):
        assert HOSTILE[name] in text
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img:not(figure img)").count() == 0
    page.keyboard.press("Escape")
    table = list(csv.DictReader(downloaded(page, "Download CSV of cells").splitlines()))
    assert table[0]["learner"] == f"'{HOSTILE['learner']}"
    assert table[0]["device"] == "'@SUM(1)"
    assert table[0]["defense"] == HOSTILE["defense"]


def test_nothing_but_the_script_of_the_page_can_run(opened: Opener, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    at = file.with_name("injected.html")
    at.write_text(text.replace("<main", "<script>window.pwned=1</script><main", 1))
    page = opened()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    context = page.context.browser.new_context()  # type: ignore[union-attr]
    other = context.new_page()
    other.on("console", lambda message: refused.append(message.text))
    other.goto(at.as_uri())
    assert other.evaluate("window.pwned") is None
    assert any("Content Security Policy" in text for text in refused)
    context.close()
    assert not re.search(r"\b(?:src|href)=\"?(?:https?:)?//", text)


def test_many_cells_are_shown_in_parts(
    opened: Opener, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [
        frame.assign(
            seed=frame["seed"] + 2 * k,
            noise_seed=frame["noise_seed"] + 2 * k,
            key=[f"{k:04d}{key[4:]}" for key in frame["key"]],
        )
        for k in range(50)
    ]
    many = pd.concat(copies, ignore_index=True)
    monkeypatch.setattr("unlearnable_bench.reports._page._reports", lambda: iter(()))
    at = tmp_path / "page.html"
    at.write_text(PageReport().render(many), encoding="utf-8")
    page = opened(at=at)
    assert len(rows(page, "cells")) == 200
    more = page.get_by_role("button", name="Show more")
    assert more.inner_text() == "Show more (2,850 left)"
    more.click()
    assert len(rows(page, "cells")) == 1200
    page.get_by_role("textbox", name="Seeds").fill("99")
    assert len(rows(page, "cells")) == 30
    assert more.is_hidden()
    page.get_by_role("button", name="Clear filters").click()
    assert len(downloaded(page, "Download CSV of cells").splitlines()) == 3051


def test_a_changed_record_is_seen_in_table_figure_and_page(opened: Opener, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(RECORDS, folder)
    (before,) = of(load_records(folder), attack="sem", rho_a="4/255", defense="none")
    path = folder / "cells" / f"{before['key']}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test_accuracy": 12.34}))
    frame = load_records(folder)
    markdown = " ".join(str(make_piece(frame, "main").content).split())
    assert f"| {before['test_accuracy']:.1f} |" not in markdown
    assert "| SEM | 13.6 | 12.3 |" in markdown
    data = radius_curves_data(frame)
    assert 12.34 in data[(data["attack"] == "sem") & (data["rho_a"] == "4/255")]["mean"].tolist()
    at = tmp_path / "page.html"
    at.write_text(PageReport().render(frame), encoding="utf-8")
    page = opened(at=at)
    page.locator("#main-1").get_by_role("button", name="SEM, rho_a 4/255: 12.3").click()
    assert "Final test accuracy\n12.34 %" in panel(page).inner_text()


def test_the_page_is_the_same_for_the_same_records(frame: pd.DataFrame, file: Path) -> None:
    twice = pd.concat([frame, frame])
    assert PageReport().render(twice) == file.read_text(encoding="utf-8")


def test_aliases_and_a_title_are_taken(opened: Opener, frame: pd.DataFrame, tmp_path: Path) -> None:
    at = tmp_path / "page.html"
    piece = make_piece(frame, "html", None, {"title": "Ours & theirs", "aliases": "sem=Ours"})
    assert piece.suffix == "html"
    at.write_text(str(piece.content), encoding="utf-8")
    page = opened(at=at)
    assert (page.title(), page.locator("h1").inner_text()) == ("Ours & theirs", "Ours & theirs")
    assert "Ours" in rows(page)
    assert page.get_by_role("checkbox", name="Ours", exact=True).count() == 1
    with pytest.raises(UserError, match="LABEL=NAME"):
        make_piece(frame, "html", None, {"aliases": "sem"})
