"""The worst case over defenses: protection if the trainer picks the best defense."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from unlearnable_bench import Report, option
from unlearnable_bench.reports.main import settings
from unlearnable_bench.results.aggregate import CONTROLS, order_of
from unlearnable_bench.results.names import display, radius_note
from unlearnable_bench.results.needs import needs_of
from unlearnable_bench.results.pivot import Entries, cells, shared, with_notes
from unlearnable_bench.results.table import MARKS, Column, Entry, Row, Table

_NOTE = "None: training without a defense. In brackets: number of defenses tried, None included."


@dataclass(frozen=True, kw_only=True)
class WorstCase(Report):
    """Highest accuracy over defenses, and the defense that reaches it, at each rho_a."""

    over_rho_a: bool = option(False, "maximum over all rho_a as well")

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set, learner and preset with several defenses."""
        return list(worst_case_tables(frame, over_rho_a=self.over_rho_a))


def worst_case_tables(frame: pd.DataFrame, *, over_rho_a: bool = False) -> Iterator[Table]:
    """Yield a table of highest mean accuracies over defenses, `none` included.

    Args:
        frame: from `load_records`.
        over_rho_a: take the maximum over the radii as well.
    """
    for part in settings(cells(frame)):
        whole = part[part["protect"] == 1]
        if over_rho_a:
            groups = [("Worst case", whole)]
        else:
            radii = sorted({*whole["rho_a"]}, key=order_of)
            groups = [(f"rho_a {radius}", whole[whole["rho_a"] == radius]) for radius in radii]
        defended = [(name, group) for name, group in groups if len({*group["defense"]}) > 1]
        if defended:
            yield _table(whole, defended)


def _table(whole: pd.DataFrame, groups: Sequence[tuple[str, pd.DataFrame]]) -> Table:
    defended = {*whole[whole["defense"] != "none"]["attack"], *CONTROLS}
    found = whole[whole["attack"].isin(defended)]
    several = found.groupby("attack")["rho_u"].nunique().to_dict()
    rows = []
    for key, mine in found.groupby(["attack", "rho_u"], sort=False):
        attack, rho_u = map(str, key)
        note = radius_note(attack, rho_u, always=several[attack] > 1)
        worst = [_worst(group[group.index.isin(mine.index)]) for _, group in groups]
        entries = tuple(one for pair in worst for one in pair)
        rows.append(Row(attack, entries, note, radius_note(attack, rho_u, always=True)))
    columns = [(Column(name), Column("reached by")) for name, _ in groups]
    table = Table(
        "worst-case",
        "Highest clean test accuracy (%) over defenses",
        shared(whole, "defense"),
        tuple(column for pair in columns for column in pair),
        tuple(sorted(rows, key=lambda row: row.label not in CONTROLS)),
        notes=(_NOTE,),
        needs=needs_of(found),
    )
    return with_notes(table)


def _worst(cells_of_one: pd.DataFrame) -> tuple[Entry | None, Entry | None]:
    """Return the highest entry over defenses and radii, and the name of its defense."""
    entries = Entries(cells_of_one, ["defense", "rho_a"], "test_accuracy")
    most = max(map(len, entries.places.values()), default=0)
    tried = {key: each for key in entries.places if (each := entries.entry(key, most))}
    found = {mark for each in tried.values() for mark in each.marks}
    marks = tuple(sorted(found, key=list(MARKS).index))
    known = {key: each for key, each in tried.items() if each.mean is not None}
    if not known:
        return (Entry(seeds=0, marks=marks) if marks else None), None
    (defense, radius), worst = max(known.items(), key=lambda pair: pair[1].mean or 0.0)
    name = display(str(defense))
    if len({*cells_of_one["rho_a"]}) > 1:
        name += f", rho_a {radius}"
    return replace(worst, marks=marks), Entry(text=f"{name} ({len(known)})", keys=worst.keys)
