"""Accuracy next to published figures of the same noise, learner and training."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.errors import UserError
from unlearnable_bench.planning import registry
from unlearnable_bench.radius import Radius
from unlearnable_bench.reports.main import settings
from unlearnable_bench.results.aggregate import CONTROLS, finished, order_of
from unlearnable_bench.results.names import radius_note
from unlearnable_bench.results.pivot import Entries, cells, shared, with_notes
from unlearnable_bench.results.table import Column, Entry, Row, Table

_CAPTION = "Clean test accuracy (%) next to published figures"
_NOTE = (
    "Beyond: points above all published figures, or below (negative); 0: within their range. No "
    "two sources share a protocol: compare orders, not decimals. If a source does not name the "
    "form of a method, its default is assumed."
)


@dataclass(frozen=True, kw_only=True)
class Published(Report):
    """Clean test accuracy next to published figures of the same noise, learner and training."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set, learner, preset, defense and rho_a.

        Raises:
            UserError: no figure is known for any finished cell.
        """
        found = list(published_tables(frame))
        if not found:
            known = figures()
            raise UserError(
                "no published figure of these cells is known; there are figures of "
                f"{', '.join(dict.fromkeys(known['dataset']))} with the learners "
                f"{', '.join(dict.fromkeys(known['learner']))}, for attacks and defenses with "
                "their default options"
            )
        return found


def published_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield a table for each setting of training that a source has, too.

    Args:
        frame: from `load_records`. Unfinished cells, methods with other options or radii than by
            default, and a part of the images are left out.
    """
    for part in settings(cells(finished(frame))):
        usual = [*map(_has_usual_radius, part["attack"], part["setting"])]
        whole = part[usual & (part["protect"] == 1).to_numpy()]
        groups = [group for _, group in whole.groupby(["defense", "rho_a"], sort=False)]
        for group in sorted(groups, key=lambda group: order_of(group.iloc[0]["rho_a"])):
            known = _of_setting(group.iloc[0])
            shown = group[group["attack"].isin(known["noise"])]
            if len(shown):
                yield _table(shown, known[known["noise"].isin(shown["attack"])])


@cache
def figures() -> pd.DataFrame:
    """Return published clean test accuracy in %, one figure a row, labelled as records are."""
    return _read("published_figures.csv").astype({"accuracy": float})


@cache
def sources() -> dict[str, str]:
    """Return where each source of `figures` is, in the order of their columns."""
    read = _read("published_sources.csv").to_dict("records")
    return {row["source"]: f"{row['source']}: {row['url']} ({row['note']})." for row in read}


def _read(name: str) -> pd.DataFrame:
    with resources.files("unlearnable_bench.reports").joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def _has_usual_radius(attack: str, setting: str) -> bool:
    """Return whether an attack ran with its default radius, or has no such option.

    The radius of a record is that of the noise, which `dune` and `em-ops` exceed by design.
    """
    made = json.loads(setting or "{}").get("poison", {}).get("attack", {})
    options: Mapping[str, Any] = made.get("options", {})
    usual = _usual_radius(attack.partition("[")[0])
    return usual is None or "rho_u" not in options or Radius(options["rho_u"]) == usual


@cache
def _usual_radius(attack: str) -> Radius | None:
    """Return the default radius of an attack; None if it has no such option or is not installed."""
    if attack not in registry.attacks.names():
        return None
    usual = registry.attacks.get(attack)().option_values().get("rho_u")
    return usual if isinstance(usual, Radius) else None


def _of_setting(cell: pd.Series) -> pd.DataFrame:
    """Return the figures of the same data set, learner, defense and radius."""
    known = figures()
    names = ["dataset", "learner", "defense"]
    same = (known[names] == cell[names]).all(axis=1)
    return known[same & (known["rho_a"].map(order_of) == order_of(cell["rho_a"]))]


def _table(group: pd.DataFrame, known: pd.DataFrame) -> Table:
    entries_of = Entries(group, ["attack", "rho_u"], "test_accuracy")
    names = [name for name in sources() if name in set(known["source"])]
    rows, mine = [], []
    for attack, rho_u in sorted(entries_of.places, key=lambda row: row[0] not in CONTROLS):
        here = entries_of.entry((attack, rho_u))
        theirs = known[known["noise"] == attack].set_index("source")["accuracy"]
        shown = [Entry(theirs[name], seeds=0) if name in theirs else None for name in names]
        budget = radius_note(attack, rho_u, always=True)
        row = Row(attack, (here,), radius_note(attack, rho_u), budget)
        mine.append(row)
        rows.append(replace(row, entries=(here, _beyond(here, theirs), *shown)))
    columns = (Column("Here"), Column("Beyond"), *map(Column, names))
    table = Table("published", _CAPTION, shared(group, "none"), columns[:1], tuple(mine))
    noted = with_notes(table, group)
    return replace(
        noted,
        columns=columns,
        rows=tuple(rows),
        notes=(*noted.notes, _NOTE),
        sources=tuple(sources()[name] for name in names),
    )


def _beyond(here: Entry | None, theirs: pd.Series) -> Entry | None:
    """Return by how much a mean lies outside of the range of figures."""
    if here is None or here.mean is None:
        return None
    within = min(max(here.mean, theirs.min()), theirs.max())
    return Entry(here.mean - within, keys=here.keys)  # one number: no spread is printed
