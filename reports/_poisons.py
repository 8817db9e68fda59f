"""Rows of tables about poisons: one value per seed, although several cells share a poison."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from unlearnable_bench.results.aggregate import (
    CONTROLS,
    distinct_labels,
    mean,
    numbers,
    positions,
)
from unlearnable_bench.results.frame import QUALITY
from unlearnable_bench.results.intervals import NotComputable, count, summarise
from unlearnable_bench.results.names import display, radius_note
from unlearnable_bench.results.replicates import seed_pairs
from unlearnable_bench.results.table import MARKS, Entry, Mark, Row, Table

# These change no image, so there is nothing to time or to show.
_UNPOISONED = ("clean", "remainder")


def per_poison(
    frame: pd.DataFrame, without: Sequence[str] = _UNPOISONED
) -> Iterator[tuple[pd.DataFrame, list[tuple[Row, pd.DataFrame]]]]:
    """Yield the finished cells of each data set and preset, and the poisons of each method.

    Args:
        frame: from `load_records`.
        without: labels of the rows to leave out.

    Yields:
        The cells; then for each method, controls first, a row without entries and its poisons:
        one row per seed of the noise, with the columns of the frame and `keys`, the keys of all
        its records.
    """
    done = distinct_labels(frame)
    if done.empty:
        return
    done = done[~done["attack"].isin(without)]
    for _, part in done.groupby(["dataset", "preset"], sort=False):
        several = part.groupby("attack")["rho_u"].nunique().to_dict()
        rows = []
        for key, mine in part.groupby(["attack", "rho_u"], sort=False):
            attack, rho_u = map(str, key)
            note = radius_note(attack, rho_u, always=several[attack] > 1)
            row = Row(attack, (), note, radius_note(attack, rho_u, always=True))
            rows.append((row, _one_a_seed(mine)))
        yield part, sorted(rows, key=lambda row: row[0].label not in CONTROLS)


def _one_a_seed(mine: pd.DataFrame) -> pd.DataFrame:
    """Return one row per seed of the noise; seconds are averaged if cells generated it again.

    `machines` holds the device and the environment of each generation that is averaged.
    """
    noise_seeds = pd.DataFrame({"seed": [noise_seed for noise_seed, _ in seed_pairs(mine)]})
    found = sorted(positions(noise_seeds, ["seed"]))
    lines = mine.iloc[[places[0] for _, places in found]].reset_index(drop=True)
    for name in ("generation_seconds", "generation_warmup_seconds", *QUALITY):
        if name in mine:
            values = numbers(mine[name])
            lines[name] = [mean(values[places]) for _, places in found]
    if "generation_resumed" in mine:
        resumed = mine["generation_resumed"].astype(bool).to_numpy()
        lines["generation_resumed"] = [bool(resumed[places].any()) for _, places in found]
    devices = mine.get("generation_device", mine["device"])
    environments: Any = mine.get("generation_environment", [{}] * len(mine))
    machines = list(zip(devices, environments, strict=True))
    lines["machines"] = [[machines[k] for k in places] for _, places in found]
    keys = mine["key"].tolist() if "key" in mine else None
    lines["keys"] = [tuple(keys[k] for k in places) if keys else () for _, places in found]
    return lines


def poison_title(part: pd.DataFrame) -> str:
    """Return the common setting of the poisons of a table, as text."""
    first = part.iloc[0]
    return f"{display(first['dataset'])}, {display(first['preset'])} preset"


def number(
    values: Iterable[float],
    keys: Sequence[str] = (),
    marks: Sequence[Mark] = (),
    lowest: float | None = 0.0,
) -> Entry | None:
    """Return the entry of one value per seed, or None if there is no value.

    Args:
        values: in the unit of the column; values that are not finite are left out.
        keys: keys of their records.
        marks: marks of the entry.
        lowest: the smallest possible value, which bounds the interval; None: there is no such.
    """
    found = summarise(values)
    if isinstance(found.mean, NotComputable):
        return None
    interval = None
    if not isinstance(found.interval, NotComputable):
        low = found.interval.low
        interval = (low if lowest is None else max(lowest, low), found.interval.high)
    std = 0.0 if isinstance(found.std, NotComputable) else found.std
    ordered = tuple(sorted(marks, key=list(MARKS).index))
    return Entry(found.mean, std, found.n, interval, marks=ordered, keys=tuple(keys))


def with_seeds(table: Table) -> Table:
    """Return the table with notes on the seeds of its first column and on its marks."""
    seeds = {row.entries[0].seeds for row in table.rows if row.entries[0]}
    notes = list(table.notes)
    if seeds == {1}:
        notes.append("One seed.")
    elif seeds:
        low, high = min(seeds), max(seeds)
        span = count(low, "seed") if low == high else f"{low} to {high} seeds"
        notes.append(f"Mean over {span}, with the sample standard deviation.")
    notes += [f"{MARKS[mark][0]} {MARKS[mark][1]}." for mark in table.marks]
    return replace(table, notes=tuple(notes))
