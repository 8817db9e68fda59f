"""The main table: methods as rows, radii of adversarial training as columns."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.results.pivot import cells, pivot
from unlearnable_bench.results.table import Column, Entry, Table

_NOTE = (
    "Poisoned test: accuracy on test images poisoned in the same way, if the poison is a function "
    "of image and class."
)


@dataclass(frozen=True, kw_only=True)
class Main(Report):
    """Clean test accuracy of methods at each rho_a, one table per data set, learner and preset."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set, learner, preset and defense with several radii."""
        return list(main_tables(frame))


def main_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield the tables over rho_a.

    A defense that was run at only one radius is a column of the table of defenses instead.

    Args:
        frame: from `load_records`.
    """
    for part in settings(cells(frame)):
        whole = part[part["protect"] == 1]
        for defense, group in whole.groupby("defense", sort=False):
            single = len(set(group["rho_a"])) == 1 and len(group) < len(whole)
            if defense != "none" and single:
                continue
            yield _with_poisoned(pivot("main", group, "rho_a"), group)
            if group["protected_accuracy"].notna().any():
                only = "test images of the protected classes"
                yield pivot("main", group, "rho_a", kind="protected_accuracy", title=[only])


def _with_poisoned(table: Table, group: pd.DataFrame) -> Table:
    """Return a table with columns of accuracy on poisoned test images where a row has it."""
    kind = "poisoned_test_accuracy"
    if kind not in group or group[kind].isna().all():
        return table
    other = pivot("main", group, "rho_a", kind=kind)
    shown = [
        k
        for k in range(len(other.columns))
        if any(_is_number(row.entries[k]) for row in other.rows)
    ]
    columns = (other.columns[k] for k in shown)
    added = [Column(f"poisoned test, {c.heading}", f"poisoned {c.value}") for c in columns]
    rows = [
        replace(row, entries=(*row.entries, *(_plain(same.entries[k]) for k in shown)))
        for row, same in zip(table.rows, other.rows, strict=True)
    ]
    columns_of_both = (*table.columns, *added)
    notes = (*table.notes, _NOTE)
    return replace(table, columns=columns_of_both, rows=tuple(rows), notes=notes)


def _is_number(entry: Entry | None) -> bool:
    return entry is not None and entry.mean is not None


def _plain(entry: Entry | None) -> Entry:
    if entry is None or entry.mean is None:
        return Entry(text="-", seeds=0)
    return replace(entry, best=False, peak=None, marks=())


def settings(found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the cells of each data set, learner and preset."""
    if not found.empty:
        for _, part in found.groupby(["dataset", "learner", "preset"], sort=False):
            yield part
