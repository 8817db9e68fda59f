"""Report `failures`: failed cells with their seeds and reasons."""

import math

from report_cells import cell, frame
from table_views import headings, texts

from unlearnable_bench.reports.failures import failure_tables
from unlearnable_bench.reports.main import main_tables


def test_failures_are_listed_with_their_reasons_and_seeds() -> None:
    lost = {"test_accuracy": math.nan, "status": "failed", "setting": "", "rho_u": None}
    cells = frame(
        cell("sem", 10, status="done", reason=""),
        *({"attack": "tap", "seed": s, "reason": "out of memory"} | lost for s in (1, 0)),
        {"attack": "tap", "seed": 2, "reason": "a NaN in the loss", "rho_a": "4/255"} | lost,
    )
    (table,) = failure_tables(cells)
    assert headings(table) == ["rho_a", "Seeds", "Reason"]
    assert [[e and e.text for e in row.entries] for row in table.rows] == [
        ["0", "0, 1", "out of memory"],
        ["4/255", "2", "a NaN in the loss"],
    ]
    assert table.caption == "3 failed cells"
    (main,) = main_tables(cells)
    assert texts(main)["TAP"] == ["!", "!"]
    assert not list(failure_tables(frame(cell("sem", 10, status="done", reason=""))))
