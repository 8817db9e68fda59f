"""Report `worst-case`: the highest accuracy over defenses."""

import math

from report_cells import cell, frame, seeds
from table_views import headings, texts

from unlearnable_bench.reports.worst_case import worst_case_tables


def test_the_worst_case_is_the_highest_accuracy_and_names_its_defense() -> None:
    cells = frame(
        cell("clean", 95),
        cell("sem", 10),
        cell("sem", 70, defense="jpeg"),
        cell("sem", 40, defense="cutout"),
        cell("sem", 75, defense="jpeg", rho_a="4/255"),
        cell("sem", 30, rho_a="4/255"),
        cell("em", 90),
    )
    (table,) = worst_case_tables(cells)
    assert headings(table) == ["rho_a 0", "reached by", "rho_a 4/255", "reached by"]
    assert texts(table) == {
        "Clean": ["95.0", "None (1)", None, None],
        "SEM": ["70.0", "JPEG (3)", "75.0", "JPEG (2)"],
    }
    (over_all,) = worst_case_tables(cells, over_rho_a=True)
    assert texts(over_all)["SEM"] == ["75.0", "JPEG, rho_a 4/255 (5)"]
    assert not list(worst_case_tables(frame(cell("sem", 10))))


def test_a_worst_case_with_an_unfinished_defense_is_marked() -> None:
    cells = frame(
        cell("sem", 10, status="done"),
        cell("sem", 70, status="done", defense="jpeg"),
        cell("sem", math.nan, status="missing", defense="cutout", setting=""),
    )
    (table,) = worst_case_tables(cells)
    assert texts(table) == {"SEM": ["70.0", "JPEG (2 of 3)"]}
    assert any(note.startswith("2 of 3: ") for note in table.notes)


def test_a_worst_case_has_the_marks_of_its_own_defense() -> None:
    jpeg = seeds("sem", [70, 72, 74], defense="jpeg")
    (table,) = worst_case_tables(frame(*jpeg, cell("sem", 40, defense="cutout")))
    assert texts(table) == {"SEM": ["72.0 ± 2.0", "JPEG (2)"]}
    (table,) = worst_case_tables(frame(*jpeg, cell("sem", 90, defense="cutout")))
    assert texts(table) == {"SEM": ["90.0 (n=1)", "Cutout (2)"]}
