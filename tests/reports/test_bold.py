"""Which entry of a column is bold, and when none is."""

import pytest
from report_cells import cell, frame, near, seeds
from table_views import bold

from unlearnable_bench.reports.defenses import defense_tables
from unlearnable_bench.reports.main import main_tables
from unlearnable_bench.results.rendering import default_tables


def test_controls_come_first_and_are_never_bold() -> None:
    (table,) = default_tables(
        frame(
            *near("sem", 30),
            *near("random", 10),
            *near("rem[steps=3]", 20),
            *near("clean", 95, rho_u="0"),
            *near("em", 25),
        )
    )
    assert bold(table) == {
        "Random": [False],
        "Clean": [False],
        "SEM": [False],
        "REM (steps=3)": [True],
        "EM": [False],
    }
    (controls,) = default_tables(frame(*near("clean", 90), *near("random", 80)))
    assert not any(entry.best for entry in controls.entries)


def test_the_bold_entry_is_chosen_in_each_column() -> None:
    (table,) = default_tables(
        frame(
            *near("sem", 10, rho_a="0"),
            *near("rem", 13, rho_a="0"),
            *near("sem", 50, rho_a="1/255"),
            *near("rem", 47, rho_a="1/255"),
        )
    )
    assert bold(table) == {"SEM": [True, False], "REM": [False, True]}


def test_each_defense_has_its_own_bold_entry() -> None:
    cells = [
        *near("sem", 10),
        *near("rem", 20),
        *near("sem", 70, defense="jpeg"),
        *near("rem", 60, defense="jpeg"),
    ]
    (table,) = defense_tables(frame(*cells))
    assert bold(table) == {"SEM": [True, False], "REM": [False, True]}


@pytest.mark.parametrize(
    ("sem", "rem"),
    [
        ([10.0], [30.0]),
        ([10.0, 10.1], [30.0, 30.1]),
        ([10.0, 20.0, 30.0], [21.0, 22.0, 23.0]),
        ([10.0, 11.0, 12.0], [12.0, 11.0, 10.0]),
    ],
    ids=["one seed", "two seeds", "intervals overlap", "a tie"],
)
def test_nothing_is_bold_that_the_seeds_do_not_show(sem: list[float], rem: list[float]) -> None:
    (table,) = default_tables(frame(*seeds("sem", sem), *seeds("rem", rem)))
    assert not any(entry.best for entry in table.entries)
    assert any("othing is bold" in note for note in table.notes)


def test_nothing_is_bold_that_is_not_below_clean_accuracy() -> None:
    (table,) = default_tables(frame(*near("clean", 20), *near("sem", 30), *near("rem", 40)))
    assert not any(entry.best for entry in table.entries)


def test_training_that_collapsed_is_no_protection() -> None:
    usual = {"classes": 10, "train_accuracy": 99.0}
    collapsed = near("tap", 10, **(usual | {"train_accuracy": 10.0}))
    rest = [*near("sem", 20, **usual), *near("rem", 50, **usual), cell("clean", 90, **usual)]
    (table,) = main_tables(frame(*collapsed, *rest))
    assert bold(table) == {"Clean": [False], "TAP": [False], "SEM": [True], "REM": [False]}
    assert any(note.startswith("~ ") and "never bold" in note for note in table.notes)
