"""An entry of a table: mean, spread, seeds, digits and the records that it comes from."""

import math
import statistics
from collections.abc import Sequence
from functools import cache
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cells import cell, frame, near, seeds
from table_views import texts

from unlearnable_bench.reports.cost import cost_tables
from unlearnable_bench.reports.defenses import defense_tables
from unlearnable_bench.reports.generation_time import time_tables
from unlearnable_bench.reports.main import main_tables
from unlearnable_bench.reports.paired import paired_tables
from unlearnable_bench.reports.quality import quality_tables
from unlearnable_bench.reports.worst_case import worst_case_tables
from unlearnable_bench.results.aggregate import aggregate
from unlearnable_bench.results.rendering import default_tables
from unlearnable_bench.results.style import TableStyle
from unlearnable_bench.results.table import Entry, Table, entry_text

COLUMNS = [
    *("dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset"),
    *("test_accuracy_mean", "test_accuracy_std", "seeds"),
    *("generation_seconds", "preparation_seconds", "training_seconds", "device"),
]


def test_the_spread_is_the_sample_standard_deviation_over_seeds() -> None:
    values = [10.0, 12.5, 17.0]
    results = aggregate(frame(*seeds("sem", values), cell("rem", 3.0)))
    assert list(results.columns.drop("setting")) == COLUMNS
    sem, rem = results.to_dict("records")
    assert sem["test_accuracy_mean"] == pytest.approx(statistics.mean(values))
    assert sem["test_accuracy_std"] == pytest.approx(statistics.stdev(values))
    assert sem["seeds"] == 3
    assert (rem["test_accuracy_mean"], rem["seeds"]) == (3.0, 1)
    assert math.isnan(rem["test_accuracy_std"])  # one seed says nothing of the spread


def test_seconds_are_means_on_the_devices_named() -> None:
    results = frame(
        cell("sem", 10.0, generation_seconds=300.0, training_seconds=20.0, device="NVIDIA H200"),
        cell("sem", 10.0, generation_seconds=310.0, training_seconds=20.5, seed=1),
    )
    (row,) = aggregate(results).to_dict("records")
    assert [row[kind] for kind in COLUMNS[-4:]] == [305.0, 0.0, 20.25, "CPU + NVIDIA H200"]


def test_an_entry_has_a_spread_only_where_there_are_several_seeds() -> None:
    (table,) = default_tables(frame(*seeds("sem", [10.0, 12.0]), cell("rem", 3.04)))
    assert texts(table) == {"SEM": ["11.0 ± 1.4"], "REM": ["3.0 (n=1)"]}
    assert "Mean over 1 to 2 seeds, with the sample standard deviation." in table.notes


def test_fewer_seeds_than_others_are_written_out() -> None:
    (table,) = default_tables(frame(*seeds("sem", [10.0, 12.0, 14.0]), *seeds("rem", [3.0, 5.0])))
    assert texts(table) == {"SEM": ["12.0 ± 2.0"], "REM": ["4.0 ± 1.4 (n=2)"]}


def test_peak_interval_and_digits_are_printed_on_demand() -> None:
    given_cells = frame(*seeds("sem", [10.0, 12.0, 14.0], peak_accuracy=31.04))
    (table,) = main_tables(given_cells)
    (entry,) = table.entries
    assert entry_text(entry, " ± ", TableStyle(digits=2)) == "12.00 ± 2.00"
    assert entry_text(entry, " ± ", TableStyle(peak=True)) == "12.0 ± 2.0 / 31.0"
    # t of 2 degrees of freedom at 97.5 % is 4.303: 4.303 * 2 / sqrt(3) = 4.97.
    assert entry_text(entry, " ± ", TableStyle(spread="interval")) == "12.0 [7.0, 17.0]"
    assert entry_text(entry, " ± ", TableStyle(spread="none")) == "12.0"


def test_a_number_that_rounds_to_zero_has_no_sign() -> None:
    assert entry_text(Entry(-0.04), " ± ") == "0.0"


def test_every_entry_leads_back_to_its_records() -> None:
    given_cells = frame(*near("sem", 10), *near("em", 20), cell("em", 80, defense="jpeg"))
    reports = (main_tables, defense_tables, paired_tables, time_tables, worst_case_tables)
    for report in reports:
        for table in report(given_cells):
            assert all(entry.keys for entry in table.entries), table.name
    (main,) = main_tables(given_cells)
    assert main.rows[0].entries[0] == pytest.approx(main.entries[0])
    assert main.entries[0].keys == ("k0", "k1", "k2")


REPORTS = (
    *(main_tables, defense_tables, worst_case_tables, quality_tables, paired_tables),
    cost_tables,
)


def ordered(tables: Sequence[Table]) -> list[dict[str, list[str | None]]]:
    return [texts(table) for table in tables]


def _three_groups() -> pd.DataFrame:
    quality = {"linf": 8.0, "l2": 1.25, "psnr": 32.0, "ssim": 0.95}
    return frame(
        *seeds("sem", [10.0, 11.5, 12.0], **quality),
        *seeds("rem", [20.0, 22.0, 21.0], **quality),
        *seeds("sem", [50.0, 55.0, 52.0], defense="jpeg", **quality),
    )


@cache
def _expected() -> dict[Any, list[dict[str, list[str | None]]]]:
    return {report: ordered(list(report(_three_groups()))) for report in REPORTS}


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(9)), st.lists(st.integers(0, 8), max_size=5))
def test_neither_the_order_of_seeds_nor_a_seed_read_twice_changes_a_table(
    order: Sequence[int], twice: Sequence[int]
) -> None:
    cells = _three_groups()
    # Within a group: the order of the groups is that of the rows.
    within = sorted(order, key=lambda k: k // 3)
    mixed = cells.iloc[[*within, *twice]].reset_index(drop=True)
    for report in REPORTS:
        assert ordered(list(report(mixed))) == _expected()[report]
