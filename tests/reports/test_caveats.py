"""What a preset says of its accuracies is written below each table of them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest
from report_cells import frame, near

from unlearnable_bench import api
from unlearnable_bench.presets import load_preset
from unlearnable_bench.reports.ablation import ablation_tables
from unlearnable_bench.reports.correlation import CorrelationTable
from unlearnable_bench.reports.defenses import defense_tables
from unlearnable_bench.reports.main import main_tables
from unlearnable_bench.reports.paired import paired_tables
from unlearnable_bench.reports.protection import protection_tables
from unlearnable_bench.reports.transfer import transfer_tables
from unlearnable_bench.reports.worst_case import worst_case_tables
from unlearnable_bench.results.table import Table

CAVEAT = load_preset("fast").caveat


def cells(preset: str) -> pd.DataFrame:
    """Return cells of which each report makes a table."""
    found = []
    for attack, mean in (("sem", 10), ("rem", 20), ("rem[steps=500]", 30), ("rem[steps=9]", 40)):
        for changed in ({}, {"defense": "jpeg"}, {"learner": "vgg16-bn"}, {"protect": 0.5}):
            found += near(attack, mean, preset=preset, **changed)
    return frame(*found)


@pytest.mark.parametrize(
    "report",
    [
        *(main_tables, defense_tables, transfer_tables, protection_tables),
        *(worst_case_tables, paired_tables, ablation_tables),
    ],
)
@pytest.mark.parametrize(
    ("preset", "warned"),
    [
        ("fast", True),
        ("fast #1a2b", True),
        ("fast[training.epochs=7]", False),
        ("paper", False),
        ("theirs", False),
    ],
)
def test_tables_of_fast_say_how_far_it_is_from_paper(
    report: Callable[[pd.DataFrame], Iterable[Table]], preset: str, *, warned: bool
) -> None:
    tables = list(report(cells(preset)))
    assert tables
    for table in tables:
        assert table.notes.count(CAVEAT) == warned


def test_the_table_of_variants_says_it_too() -> None:
    records = Path(__file__).parents[2] / "benchmarks" / "h200" / "cifar10-correlation"
    _, table = CorrelationTable().render(api.load_records(records))
    assert table.notes[-1] == CAVEAT
