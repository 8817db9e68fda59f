"""The worst case over defenses: protection if the trainer picks the best defense."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from unlearnable_bench import Report, option
from unlearnable_bench.reports.main import settings
from unlearnable_bench.results.aggregate import CONTROLS, order_of
from unlearnable_bench.results.names import display, radius_note
from unlearnable_bench.results.needs import needs_of
from unlearnable_bench.results.pivot import Entries, cells, shared, with_notes
from unlearnable_bench.results.table import MARKS, Column, Entry, Row, Table

_NOTE = "None: training without a defense. In brackets: number of defenses tried, None included."
_UNFINISHED = "2 of 3: of three defenses, one is not finished, whose accuracy may be higher."


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
        radii = sorted({*whole["rho_a"]}, key=order_of)
        groups = {f"rho_a {radius}": [radius] for radius in radii}
        if over_rho_a:
            groups = {"Worst case": radii}
        defended = {
            name: mine
            for name, mine in groups.items()
            if len({*whole[whole["rho_a"].isin(mine)]["defense"]}) > 1
        }
        if defended:
            yield _table(whole, defended)


def _table(whole: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> Table:
    """Return the table with one maximum per group of radii."""
    defended = {*whole[whole["defense"] != "none"]["attack"], *CONTROLS}
    found = whole[whole["attack"].isin(defended)]
    several = found.groupby("attack")["rho_u"].nunique().to_dict()
    entries_of = Entries(found, ["attack", "rho_u", "defense", "rho_a"], "test_accuracy")
    tried: dict[tuple[str, str], dict[tuple[str, str], Entry]] = {}
    for key in entries_of.places:
        attack, rho_u, defense, rho_a = map(str, key)
        entry = entries_of.entry(key)
        if entry is not None:
            tried.setdefault((attack, rho_u), {})[defense, rho_a] = entry
    rows = []
    for (attack, rho_u), mine in tried.items():
        note = radius_note(attack, rho_u, always=several[attack] > 1)
        worst = [
            _worst({place: each for place, each in mine.items() if place[1] in radii})
            for radii in groups.values()
        ]
        both = tuple(one for pair in worst for one in pair)
        rows.append(Row(attack, both, note, radius_note(attack, rho_u, always=True)))
    columns = [(Column(name), Column("reached by")) for name in groups]
    entries = [entry for mine in tried.values() for entry in mine.values()]
    table = Table(
        "worst-case",
        "Highest clean test accuracy (%) over defenses",
        shared(whole, "defense"),
        tuple(column for pair in columns for column in pair),
        tuple(sorted(rows, key=lambda row: row.label not in CONTROLS)),
        notes=(_NOTE, *([] if all(map(_is_whole, entries)) else [_UNFINISHED])),
        needs=needs_of(found),
    )
    return with_notes(table, found)


def _is_whole(entry: Entry) -> bool:
    return {"failed", "missing"}.isdisjoint(entry.marks)


def _worst(tried: Mapping[tuple[str, str], Entry]) -> tuple[Entry | None, Entry | None]:
    """Return the highest entry, with its own marks, and the name of its defense.

    Args:
        tried: defense and rho_a to the entry.
    """
    known = {place: each for place, each in tried.items() if each.mean is not None}
    if not known:
        marks = {mark for each in tried.values() for mark in each.marks}
        ordered = tuple(mark for mark in MARKS if mark in marks)
        return (Entry(seeds=0, marks=ordered) if ordered else None), None
    (defense, radius), worst = max(known.items(), key=lambda pair: pair[1].mean or 0.0)
    name = display(defense)
    if len({rho_a for _, rho_a in tried}) > 1:
        name += f", rho_a {radius}"
    whole = sum(map(_is_whole, tried.values()))
    count = f"{whole}" if whole == len(tried) else f"{whole} of {len(tried)}"
    return worst, Entry(text=f"{name} ({count})", keys=worst.keys)
