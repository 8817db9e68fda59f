"""Report `ablation`: variants of a method that differ in options."""

import math

import pytest
from report_cells import cell, frame, setting
from table_views import means, texts

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports.ablation import ablation_tables


def test_variants_of_a_method_are_rows_that_name_every_option_they_differ_in() -> None:
    cells = frame(
        cell("clean", 95),
        cell("sem", 12, setting=setting(noise_steps=10, steps=5000)),
        cell("sem[noise_steps=5]", 14, setting=setting(noise_steps=5, steps=5000)),
        cell("sem[noise_steps=20]", 11, setting=setting(noise_steps=20, steps=5000)),
        cell("rem", 30, setting=setting(steps=5000)),
    )
    (table,) = ablation_tables(cells)
    assert table.title == "Shapes, Small CNN, smoke preset, variants of SEM"
    assert means(table) == {
        "Clean": [95],
        "SEM (noise_steps=5)": [14],
        "SEM (noise_steps=10)": [12],
        "SEM (noise_steps=20)": [11],
    }


def test_an_ablation_of_one_option_holds_the_others_fixed() -> None:
    cells = frame(
        *(
            cell(f"sem[a={a},b={b}]", 10 * a + b, setting=setting(a=a, b=b))
            for a in (1, 2)
            for b in (3, 4)
        ),
        cell("sem[a=5,b=6]", 56, setting=setting(a=5, b=6)),
    )
    (every,) = ablation_tables(cells)
    assert len(every.rows) == 5
    first, second = ablation_tables(cells, "sem.a")
    assert means(first) == {"SEM (a=1)": [13], "SEM (a=2)": [23]}
    assert first.title.endswith("variants of SEM, b=3")
    assert means(second) == {"SEM (a=1)": [14], "SEM (a=2)": [24]}
    with pytest.raises(
        UserError, match=r"unknown option with several values 'sem.c'.*sem.a, sem.b"
    ):
        list(ablation_tables(cells, "sem.c"))
    with pytest.raises(UserError, match=r"option='steps': write ATTACK.OPTION"):
        list(ablation_tables(cells, "steps"))
    with pytest.raises(UserError, match="no method has several variants"):
        list(ablation_tables(frame(cell("sem", 1))))


def test_an_unfinished_variant_is_a_row_too() -> None:
    cells = frame(
        cell("sem", 12, setting=setting(steps=10), status="done"),
        cell("sem[steps=5]", math.nan, setting="", status="failed", rho_u=None),
    )
    (table,) = ablation_tables(cells)
    assert [row.name() for row in table.rows] == ["SEM (steps=5)", "SEM (steps=10)"]
    assert texts(table)["SEM (steps=5)"] == ["!"]
