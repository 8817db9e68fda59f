"""Published figures: the file of them, the report next to them, and its tables in the benchmarks.

`python tests/test_published.py` writes the tables of benchmarks/README.md again.
"""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_cells import cell, frame, near, setting
from table_views import headings, means

from unlearnable_bench import api
from unlearnable_bench.errors import UserError
from unlearnable_bench.planning import registry
from unlearnable_bench.presets import split_label
from unlearnable_bench.radius import Radius
from unlearnable_bench.reports import _html, _latex, _markdown
from unlearnable_bench.reports.published import Published, figures, published_tables, sources
from unlearnable_bench.results.frame import select
from unlearnable_bench.results.rendering import render
from unlearnable_bench.results.versions import earlier

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "benchmarks" / "README.md"
BLOCK = re.compile(
    r"(<!-- rendered by tests/test_published\.py -->\n)(.*?)(<!-- end -->)", re.DOTALL
)
FOLDERS = ["cifar10-both", "cifar10-fast", "cifar10-methods"]
METHODS = [
    "clean", "random", "em", "tap", "ntga", "sc", "rem", "sem", "ops", "ar", "cuda", "pil", "tue",
    "mi-ue", "sep", "entf",
]  # fmt: skip
AS = {"dataset": "cifar10", "learner": "resnet18", "preset": "paper"}


def rendered() -> str:
    """Return the tables of the measured cells, and once below them what their notes say."""
    records = api.load_records([ROOT / "benchmarks" / "h200" / name for name in FOLDERS])
    newest = select(records[~earlier(records).any(axis=1)], preset=["fast"], attack=METHODS)
    tables = list(published_tables(newest))
    notes = dict.fromkeys(note for table in tables for note in (table.notes[-1], *table.sources))
    plain = [replace(table, notes=(), sources=()) for table in tables]
    found = _markdown.render(plain, _markdown.Style())
    return f"\n{found.strip()}\n\n" + "".join(f"- {note}\n" for note in notes) + "\n"


def blocks() -> list[str]:
    return [found[1] for found in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))]


def test_the_benchmarks_show_what_the_report_makes() -> None:
    assert blocks() == [rendered()]


def test_every_figure_is_there_once_and_has_a_source() -> None:
    known = figures()
    labels = ["source", "dataset", "learner", "noise", "defense", "rho_a"]
    assert not known.duplicated(labels).any()
    assert known["accuracy"].between(0, 100, inclusive="neither").all()
    assert {*known["dataset"]} <= {*registry.datasets.names()}
    assert all(str(Radius(radius)) == radius for radius in known["rho_a"].unique())
    assert {*known["source"]} == {*sources()}


@pytest.mark.parametrize(
    ("source", "noise", "defense", "rho_a", "accuracy"),
    [
        ("MI-UE paper", "sem", "none", "4/255", 29.77),
        ("REM paper", "rem", "none", "4/255", 48.16),
        ("DUNE digest", "sem", "grayscale", "0", 31.94),
        ("BridgePure", "ops", "none", "8/255", 9.60),
        ("ISS README", "rem", "jpeg", "0", 81.50),
        ("APBench", "sc", "none", "0", 13.06),
    ],
)
def test_figures_are_those_of_their_sources(
    source: str, noise: str, defense: str, rho_a: str, accuracy: float
) -> None:
    known = figures().set_index(["source", "dataset", "learner", "noise", "defense", "rho_a"])
    found = known["accuracy"]
    assert found[source, "cifar10", "resnet18", noise, defense, rho_a] == accuracy


def test_an_accuracy_is_next_to_the_figures_of_its_own_training() -> None:
    cells = frame(
        *near("sem", 40, rho_a="4/255", **AS),
        *near("rem", 45, rho_a="4/255", **AS),
        *near("clean", 89.6, rho_a="4/255", **AS),
        *near("sem", 15, **AS),
        *near("sem", 10, defense="grayscale", **AS),
    )
    plain, grey, robust = published_tables(cells)
    names = ["Here", "Beyond", "MI-UE paper", "REM paper", "EntF paper"]
    assert headings(robust) == names
    assert means(robust) == {
        "Clean": [pytest.approx(89.6), 0, 89.77, 89.51, 90.31],
        "SEM": [pytest.approx(40), pytest.approx(10.23), 29.77, None, None],
        "REM": [pytest.approx(45), 0, 39.45, 48.16, None],
    }
    assert means(plain)["SEM"] == [pytest.approx(15), 0, 15.94, 14.78]
    assert means(grey)["SEM"] == [pytest.approx(10), pytest.approx(-21.94), 31.94]
    assert robust.title == "CIFAR-10, ResNet-18, paper preset, rho_a 4/255"
    assert grey.title.endswith("defense Grayscale")
    assert any(note.startswith("Mean over 3 seeds") for note in robust.notes)
    assert grey.notes[-1].startswith("Beyond")
    assert [source.partition(":")[0] for source in grey.sources] == ["DUNE digest"]


def test_the_sources_are_below_the_table_and_links_in_html() -> None:
    tables = [*published_tables(frame(*near("sem", 40, rho_a="4/255", **AS)))]
    [source] = tables[0].sources
    assert source.startswith("MI-UE paper: https://arxiv.org/abs/2603.03725 (")
    latex = _latex.render(tables, _latex.Style())
    assert "MI-UE paper: https" in latex.partition("\\end{tabular}")[2]
    assert "MI-UE paper: https" not in latex.partition("\\end{tabular}")[0]
    link = '<a href="https://arxiv.org/abs/2603.03725">https://arxiv.org/abs/2603.03725</a> ('
    assert link in _html.render(tables, _html.Style())
    assert source in _markdown.render(tables, _markdown.Style())


@pytest.mark.parametrize(
    "changed",
    [
        {"attack": "sem[steps=500]"}, {"attack": "mine"}, {"setting": setting(rho_u="4/255")},
        {"attack": "em[variant=misaligned]", "setting": setting(rho_u="4/255")}, {"protect": 0.5},
        {"defense": "cutout[size=3]"}, {"rho_a": "5/255"}, {"learner": "small-cnn"},
        {"dataset": "svhn"},
    ],
)  # fmt: skip
def test_other_options_radii_and_shares_have_no_published_figure(
    changed: dict[str, object],
) -> None:
    own = {"attack": "sem", **AS} | changed
    cells = frame(cell(str(own.pop("attack")), 40, **own))
    with pytest.raises(UserError, match=r"no published figure of these cells .* cifar10, cifar100"):
        Published().render(cells)
    assert list(published_tables(frame(cell("sem", 40, **AS))))


def test_the_radius_that_counts_is_the_one_asked_for_and_a_row_names_that_of_its_noise() -> None:
    cells = frame(
        cell("ops", 20, rho_u="l0 1", **AS),
        cell("sc", 20, rho_u="l2 1.3", **AS),
        cell("dune", 20, rho_u="33/255", setting=setting(rho_u="8/255"), **AS),
        cell("sem", 20, rho_u="16/510", setting=setting(rho_u="16/510"), **AS),
        cell("em[variant=misaligned]", 20, setting=setting(rho_u="8/255"), **AS),
    )
    (table,) = published_tables(cells)
    assert {*means(table)} == {
        "OPS (L0 1)", "SC (L2 1.3)", "DUNE (33/255)", "SEM", "EM (variant=misaligned)",
    }  # fmt: skip
    budgets = str(render(cells, "published", "markdown", budget="true"))
    assert re.search(r"\| SC +\| L2 1.3 ", budgets)


def test_unfinished_cells_are_left_out() -> None:
    done = cell("sem", 40, rho_a="4/255", status="done", **AS)
    missing = cell("clean", math.nan, status="missing", **AS | {"setting": ""})
    (table,) = published_tables(frame(done, missing))
    assert {*means(table)} == {"SEM"}
    with pytest.raises(UserError, match="no published figure"):
        Published().render(frame(missing))


def test_every_figure_can_be_met() -> None:
    """Its labels are those that a plan with these options gets."""
    found = figures()
    for name in ("noise", "learner", "defense"):
        kind = {"noise": registry.attacks, "learner": registry.learners}.get(
            name, registry.defenses
        )
        for label in found[name].unique():
            assert kind.choose(*split_label(label)).label == label


@pytest.mark.parametrize("form", ["latex", "markdown", "csv", "html"])
def test_it_is_made_in_every_format(form: str) -> None:
    text = str(render(frame(cell("sem", 40, rho_a="4/255", **AS)), "published", form))
    assert "29.8" in text or "29.77" in text


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(BLOCK.sub(lambda b: b[1] + rendered() + b[3], text), encoding="utf-8")
