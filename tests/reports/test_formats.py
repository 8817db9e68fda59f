"""Formats of tables that are text: Markdown, CSV and HTML, and the tidy rows."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
from report_cells import cell, frame, near, seeds

from unlearnable_bench import api
from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._csv import COLUMNS as LONG
from unlearnable_bench.reports._csv import harmless
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.pivot import cells, pivot
from unlearnable_bench.results.rendering import render

TIDY = [
    *("dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset"),
    *("test_accuracy_mean", "test_accuracy_std", "seeds"),
    *("generation_seconds", "preparation_seconds", "training_seconds", "device"),
]


def text(found: pd.DataFrame, form: str, report: str = "main", **settings: Any) -> str:
    return str(render(found, report, form, **settings))


def squeezed(found: pd.DataFrame, **settings: Any) -> str:
    """Markdown with one blank where several line up the columns."""
    return re.sub(" +", " ", text(found, "markdown", **settings))


def lines(found: pd.DataFrame, **settings: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text(found, "csv", **settings))))


class Page(HTMLParser):
    """Collects the tags and, by the tag that they are in, the texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data))


def page(found: pd.DataFrame, **settings: Any) -> Page:
    parsed = Page()
    parsed.feed(text(found, "html", **settings))
    assert not parsed.open
    return parsed


def test_markdown_is_a_table_of_pipes_whose_columns_line_up() -> None:
    found = api.render(
        frame(
            cell("clean", 90),
            *seeds("sem", [10.0, 12.0]),
            cell("my|own", 20),
            cell("sem", 30, rho_a="4/255"),
        ),
        "markdown",
    )
    assert str(found).splitlines()[:7] == [
        "Clean test accuracy (%): Shapes, Small CNN, smoke preset",
        "",
        "| Method  |    rho_a 0 | rho_a 4/255 |",
        "| ------- | ---------: | ----------: |",
        "| Clean   | 90.0 (n=1) |             |",
        "| SEM     | 11.0 ± 1.4 |  30.0 (n=1) |",
        "| my\\|own | 20.0 (n=1) |             |",
    ]


def test_markdown_prints_the_best_entry_bold_and_its_marks_behind() -> None:
    cells = frame(
        *near("sem", 10, status="done"),
        *near("rem", 20, status="done"),
        cell("rem", float("nan"), seed=3, status="failed", setting=""),
    )
    found = text(cells, "markdown")
    assert "| **10.0 ± 0.1** |" in found
    assert "|   20.0 ± 0.1 ! |" in found
    assert "! some or all seeds failed" in found


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rho_a", "rho_a"),
        ("_both_", r"\_both\_"),
        ("a*b*c", r"a\*b\*c"),
        ("`code`", r"\`code\`"),
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("![x](http://a)", r"!\[x\](http://a)"),
        ("~~gone~~", r"\~\~gone\~\~"),
        ("$x$ &lt;", r"\$x\$ \&lt;"),
        ("back\\slash", r"back\\slash"),
        ("two\nlines\r\nmore", "two lines more"),
    ],
)
def test_names_are_plain_text_in_markdown(name: str, shown: str) -> None:
    assert f"| {shown} |" in squeezed(frame(cell(name, 10)))


@pytest.mark.usefixtures("python_strings")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07seen", "seen"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x08\x00b\x9bc\x7f", "abc"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("\ufeffzero\u200bwidth", "zerowidth"),
        ("tab\there  there", "tab here there"),
        ("lone\udcff", "lone\ufffd"),
        ("样本 Ä ω", "样本 Ä ω"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_left_of_a_name(name: str, shown: str) -> None:
    assert printable(name) == shown
    cells = frame(*near(name, 10), *near("rem", 20))
    for form in ("markdown", "csv", "html", "latex"):
        found = text(cells, form)
        found.encode()
        assert not set(found) & set("\x00\x07\x08\x1b\x7f\x9b\u202e\u200b\ufeff"), form


def test_a_csv_table_has_one_header_and_each_entry_with_its_spread_apart() -> None:
    cells = frame(
        cell("clean", 90),
        *near("sem", 10, peak_accuracy=30.5),
        *near("rem", 20),
        *near("sem", 60, defense="jpeg"),
    )
    rows = lines(cells)
    assert list(rows[0]) == list(LONG)
    sem = next(row for row in rows if (row["row"], row["column"]) == ("SEM", "rho_a 0"))
    assert (sem["table"], sem["best"], sem["n"], sem["keys"]) == ("main", "yes", "3", "k1 k2 k3")
    assert float(sem["mean"]) == pytest.approx(10)
    assert float(sem["std"]) == pytest.approx(0.1)
    assert float(sem["peak"]) == pytest.approx(30.5)
    # t of 2 degrees of freedom at 97.5 % is 4.3027: 4.3027 * 0.1 / sqrt(3) = 0.2484.
    assert float(sem["low"]) == pytest.approx(9.7516, abs=1e-4)
    assert float(sem["high"]) == pytest.approx(10.2484, abs=1e-4)
    clean = next(row for row in rows if row["row"] == "Clean")
    assert (clean["mean"], clean["std"], clean["n"], clean["marks"]) == ("90.0", "", "1", "fewer")
    defenses = list(csv.DictReader(io.StringIO(text(cells, "csv", "defenses"))))
    assert {row["table"] for row in defenses} == {"defenses"}


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(...)"]
)
def test_a_spreadsheet_runs_no_name(name: str) -> None:
    assert harmless(name).startswith("'")
    cells = frame(cell(name, 10, device=name))
    (row,) = lines(cells)
    assert row["row"].startswith("'")
    (tidy,) = csv.DictReader(io.StringIO(str(api.render(cells, "csv"))))
    assert tidy["attack"].startswith("'")
    assert tidy["device"].startswith("'")


def test_a_negative_number_stays_a_number_in_csv() -> None:
    cells = frame(*seeds("sem", [1, 2, 4]), *seeds("rem", [5, 5, 5]))
    pairs = csv.DictReader(io.StringIO(text(cells, "csv", "paired")))
    found = {row["column"]: row for row in pairs if row["row"] == "SEM vs REM"}
    assert float(found["Difference"]["mean"]) == pytest.approx(-8 / 3)


def test_html_is_a_table_with_scopes_caption_bold_and_marks() -> None:
    cells = frame(
        *near("sem", 10, status="done"),
        *near("rem", 20, status="done"),
        cell("rem", float("nan"), seed=3, status="failed", setting=""),
    )
    found = page(cells)
    scopes = [attributes["scope"] for tag, attributes in found.tags if tag == "th"]
    assert scopes == ["col", "col", "row", "row"]
    assert ("strong", "10.0 ± 0.1") in found.texts
    assert ("td", "20.0 ± 0.1 ") in found.texts
    titles = [attributes["title"] for tag, attributes in found.tags if tag == "abbr"]
    assert titles == ["some or all seeds failed (see the report failures)"]
    caption = next(data for tag, data in found.texts if tag == "caption")
    assert "Mean over 3 seeds" in caption


def test_names_are_text_in_html_and_run_nothing() -> None:
    name = "<script>alert('x')</script><img src=x onerror=alert(1)> \"&amp;"
    found = page(frame(cell(name, 10, defense=name), cell(name, 10, defense=name, rho_a="4/255")))
    assert {tag for tag, _ in found.tags} == {
        *("table", "caption", "thead", "tbody", "tr", "th", "td")
    }
    assert ("th", name) in found.texts
    assert not any("onerror" in attributes for _, attributes in found.tags)


@pytest.mark.parametrize("form", ["markdown", "csv", "html", "latex"])
def test_aliases_rename_rows_and_columns_in_every_format(form: str) -> None:
    cells = frame(
        cell("sem", 10), cell("sem[steps=5]", 11), cell("sem", 12, defense="jpeg"), cell("rem", 30)
    )
    found = text(cells, form, "defenses", aliases="sem=Ours,jpeg=JPEG-75,rem=Old")
    assert "Ours" in found
    assert "JPEG-75" in found
    assert "SEM" not in found
    with pytest.raises(UserError, match="write LABEL=NAME"):
        text(cells, form, "defenses", aliases="sem")


@pytest.mark.parametrize("form", ["markdown", "html", "latex"])
def test_methods_are_columns_on_demand(form: str) -> None:
    cells = frame(cell("sem", 10), cell("rem", 30), cell("sem", 12, rho_a="4/255"), cell("em", 5))
    found = text(cells, form, transpose="true", aliases="rem=Old")
    first = found.index("Old")
    assert found.index("SEM") < first < found.index("EM", found.index("SEM") + 3)
    if form == "markdown":
        assert found.splitlines()[2:6] == [
            "|             |  SEM |  Old |  EM |",
            "| ----------- | ---: | ---: | --: |",
            "| rho_a 0     | 10.0 | 30.0 | 5.0 |",
            "| rho_a 4/255 | 12.0 |      |     |",
        ]


def test_the_budget_is_a_column_on_demand_and_leaves_the_names() -> None:
    cells = frame(
        cell("clean", 90, rho_u="0"),
        cell("sem", 10, rho_u="16/255"),
        cell("sc", 30, rho_u="l2 1.3041"),
    )
    found = text(cells, "markdown", budget="true").splitlines()
    assert found[2:7] == [
        "| Method | rho_u  | rho_a 0 |",
        "| ------ | ------ | ------: |",
        "| Clean  | 0      |    90.0 |",
        "| SEM    | 16/255 |    10.0 |",
        "| SC     | L2 1.3 |    30.0 |",
    ]


def test_digits_spread_and_peak_are_options() -> None:
    cells = frame(*seeds("sem", [10.0, 12.0, 14.0], peak_accuracy=31.04))
    assert "| 12.000 ± 2.000 |" in squeezed(cells, digits="3")
    plain = squeezed(cells, spread="none")
    assert "| 12.0 |" in plain
    assert "Mean over 3 seeds. " in plain
    interval = squeezed(cells, spread="interval")
    assert r"| 12.0 \[7.0, 17.0\] |" in interval
    assert "Mean over 3 seeds, with the 95 % interval of the mean." in interval
    peak = squeezed(cells, peak="true")
    assert "| 12.0 ± 2.0 / 31.0 |" in peak
    assert "After the slash: highest accuracy over epochs." in peak


@pytest.mark.parametrize("form", ["markdown", "csv", "html", "latex"])
def test_an_option_that_a_format_does_not_have_is_refused(form: str) -> None:
    with pytest.raises(UserError, match=r"colour.*available: "):
        text(frame(cell("sem", 10)), form, colour="red")


def test_csv_and_json_hold_the_same_rows() -> None:
    results = frame(cell("clean", 90), *seeds("a,b", [10.0, 12.0]))
    objects = json.loads(api.render(results, "json"))
    rows = list(csv.DictReader(io.StringIO(str(api.render(results, "csv")))))
    assert [list(one) for one in (*objects, *rows)] == [TIDY] * 4
    assert [row["attack"] for row in rows] == ["clean", "a,b"]
    for one, row in zip(objects, rows, strict=True):
        assert {name: str(value) for name, value in one.items() if isinstance(value, str)} == {
            name: row[name] for name, value in one.items() if isinstance(value, str)
        }
        for name in TIDY[-7:-1]:
            # One seed says nothing of the spread.
            known = float(row[name]) if row[name] else None
            assert known == (None if one[name] is None else pytest.approx(one[name]))
    assert objects[1]["test_accuracy_std"] == pytest.approx(2**0.5)


def test_aliases_that_give_two_rows_one_name_are_refused() -> None:
    both = frame(cell("em", 1.0), cell("sem", 2.0))
    with pytest.raises(UserError, match="aliases give 'em' and 'sem' the same name, 'EM'"):
        api.render(both, "markdown", aliases="sem=EM")


def test_cells_of_two_presets_share_no_entry() -> None:
    both = frame(cell("sem", 1.0), cell("sem", 2.0, preset="paper"))
    with pytest.raises(UserError, match=r"mixes cells of several presets \(smoke, paper\)"):
        pivot("mine", cells(both), "rho_a")
