"""Accuracy beside published figures of the same noise, learner and training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import numpy as np
import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.errors import UserError
from unlearnable_bench.planning import registry
from unlearnable_bench.reports.main import settings
from unlearnable_bench.results.aggregate import CONTROLS, order_of
from unlearnable_bench.results.pivot import Entries, cells, shared, with_notes
from unlearnable_bench.results.table import Column, Entry, Row, Table

_CAPTION = "Clean test accuracy (%) beside published figures"
_NOTE = (
    "Beyond: points above (+) or below (-) all published figures. No two sources share a protocol: "
    "compare orders, not decimals."
)


@dataclass(frozen=True, kw_only=True)
class BesidePublished(Report):
    """Clean test accuracy beside published figures of the same noise, learner and training."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set, learner, preset, defense and rho_a.

        Raises:
            UserError: no figure is known for any cell.
        """
        found = list(tables_beside_published(frame))
        if not found:
            known = published()
            raise UserError(
                "no published figure of these cells is known; there are figures of "
                f"{', '.join(dict.fromkeys(known['dataset']))} with the learners "
                f"{', '.join(dict.fromkeys(known['learner']))}, for attacks and defenses with "
                "their default options"
            )
        return found


def tables_beside_published(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield a table for each setting of training that a source has, too.

    Args:
        frame: from `load_records`. Methods with other options or radii than by default, and a part
            of the images, are left out.
    """
    for part in settings(cells(frame)):
        usual = [
            attack in CONTROLS or _usual_radius(attack) in (None, rho_u)
            for attack, rho_u in zip(part["attack"], part["rho_u"], strict=True)
        ]
        whole = part[np.array(usual) & (part["protect"] == 1)]
        groups = [group for _, group in whole.groupby(["defense", "rho_a"], sort=False)]
        for group in sorted(groups, key=lambda group: order_of(group.iloc[0]["rho_a"])):
            known = _of_setting(group.iloc[0])
            shown = group[group["attack"].isin(known["noise"])]
            if len(shown):
                yield _table(shown, known[known["noise"].isin(shown["attack"])])


@cache
def published() -> pd.DataFrame:
    """Return published clean test accuracy in %, one figure a row, labelled as records are."""
    return _read("published.csv").astype({"accuracy": float})


@cache
def sources() -> dict[str, str]:
    """Return where each source of `published` is, in the order of their columns."""
    read = _read("published_sources.csv").to_dict("records")
    return {row["source"]: "{source}: {url} ({note}).".format(**row) for row in read}


def _read(name: str) -> pd.DataFrame:
    with resources.files("unlearnable_bench.reports").joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


@cache
def _usual_radius(attack: str) -> str | None:
    """Return the radius of an attack's noise by default; None if it has no such option."""
    known = attack in registry.attacks.names()
    usual = registry.attacks.get(attack)().option_values().get("rho_u") if known else None
    return None if usual is None else str(usual)


def _of_setting(cell: pd.Series) -> pd.DataFrame:
    """Return the figures of the same data set, learner, defense and radius."""
    known = published()
    same = (
        known[["dataset", "learner", "defense"]] == cell[["dataset", "learner", "defense"]]
    ).all(axis=1)
    return known[same & (known["rho_a"].map(order_of) == order_of(cell["rho_a"]))]


def _table(group: pd.DataFrame, known: pd.DataFrame) -> Table:
    entries_of = Entries(group, ["attack"], "test_accuracy")
    names = [name for name in sources() if name in set(known["source"])]
    rows, mine = [], []
    for attack in sorted(dict.fromkeys(group["attack"]), key=lambda attack: attack not in CONTROLS):
        here = entries_of.entry((attack,))
        figures = known[known["noise"] == attack].set_index("source")["accuracy"]
        theirs = [Entry(figures[name]) if name in figures else None for name in names]
        mine.append(Row(attack, (here,)))
        rows.append(Row(attack, (here, _beyond(here, figures), *theirs)))
    title = shared(group, "none")
    columns = (Column("Here"), Column("Beyond"), *map(Column, names))
    table = Table("published", _CAPTION, title, columns[:1], tuple(mine))
    noted = with_notes(table, group)
    notes = (*noted.notes, _NOTE, *(sources()[name] for name in names))
    return replace(noted, columns=columns, rows=tuple(rows), notes=notes)


def _beyond(here: Entry | None, figures: pd.Series) -> Entry | None:
    """Return by how much a mean lies outside of the range of figures."""
    if here is None or here.mean is None:
        return None
    outside = here.mean - min(max(here.mean, figures.min()), figures.max())
    return Entry(text=f"{outside:+.1f}" if round(outside, 1) else "within", keys=here.keys)
