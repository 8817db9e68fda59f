"""The table of failed cells and their reasons."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.errors import UserError
from unlearnable_bench.results.aggregate import each_once
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.names import display
from unlearnable_bench.results.replicates import seed_pairs
from unlearnable_bench.results.table import Column, Entry, Row, Table

_SETTING = ["dataset", "learner", "preset"]
_DETAILS = ["defense", "rho_a", "protect"]
_CELL = ["attack", *_DETAILS, "reason"]
_COLUMNS = (
    Column("Defense"), Column("rho_a"), Column("Protected"), Column("Seeds"), Column("Reason"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Failures(Report):
    """Cells that failed, with the reason of each."""

    shows_unfinished: ClassVar[bool] = True

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set, learner and preset.

        Raises:
            UserError: no cell failed.
        """
        found = list(failure_tables(frame))
        if not found:
            raise UserError("no cell failed")
        return found


def failure_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield a table of the failed cells of each data set, learner and preset.

    Args:
        frame: from `load_records` with `unfinished`.
    """
    if "status" not in frame:
        return
    frame = each_once(frame)
    failed = frame[frame["status"] == "failed"]
    if failed.empty:
        return
    for _, part in failed.groupby(_SETTING, sort=False):
        differing = [k for k, name in enumerate(_DETAILS) if len({*part[name]}) > 1]
        shown = [*differing, len(_DETAILS), len(_DETAILS) + 1]
        rows = [_row(group) for _, group in part.groupby(_CELL, sort=False)]
        yield Table(
            "failures",
            count(len(part), "failed cell"),
            _title(part, [k for k in range(len(_DETAILS)) if k not in differing]),
            tuple(_COLUMNS[k] for k in shown),
            tuple(replace(row, entries=tuple(row.entries[k] for k in shown)) for row in rows),
        )


def _title(part: pd.DataFrame, same: list[int]) -> str:
    first = part.iloc[0]
    texts = _texts(first)
    usual = {"defense": "none", "protect": 1}
    parts = [display(first[name]) for name in _SETTING]
    parts[-1] += " preset"
    named = [k for k in same if first[_DETAILS[k]] != usual.get(_DETAILS[k])]
    parts += [f"{_COLUMNS[k].heading} {texts[k]}" for k in named]
    return ", ".join(parts)


def _row(group: pd.DataFrame) -> Row:
    first = group.iloc[0]
    pairs = sorted({(seed, noise_seed) for noise_seed, seed in seed_pairs(group)})
    seeds = ", ".join(
        f"{seed}" if noise_seed == seed else f"{seed} (noise seed {noise_seed})"
        for seed, noise_seed in pairs
    )
    texts = (*_texts(first), seeds, first["reason"] or "unknown reason")
    keys = tuple(group["key"]) if "key" in group else ()
    return Row(first["attack"], tuple(Entry(text=text, keys=keys) for text in texts))


def _texts(cell: "pd.Series[Any]") -> tuple[str, ...]:
    return display(cell["defense"]), str(cell["rho_a"]), f"{100 * cell['protect']:g} %"
