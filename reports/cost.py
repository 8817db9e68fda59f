"""The table of cost: minutes on the device that each method's results took."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._poisons import number, per_poison, poison_title
from unlearnable_bench.results.aggregate import numbers
from unlearnable_bench.results.intervals import Floats
from unlearnable_bench.results.table import Column, Table

_COLUMNS = (
    Column("Noise (min)", digits=1),
    Column("Training (min)", digits=1),
    Column("Evaluation (min)", digits=1),
    Column("Total (min)", digits=1),
)
_NOTE = (
    "Minutes on the device, warm-up included; of cells that trained at the same time, each counts "
    "its share. Noise that two presets train on counts in both."
)


@dataclass(frozen=True, kw_only=True)
class Cost(Report):
    """Minutes on the device that each method took: its noise, and training and testing on it."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set and preset.

        Raises:
            UserError: no finished cell.
        """
        found = list(cost_tables(frame))
        if not found:
            raise UserError("no finished cell, so nothing to count; run `ubench run` first")
        return found


def cost_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield a table for each data set and preset.

    Args:
        frame: from `load_records`.
    """
    for part, methods in per_poison(frame, without=()):
        rows, whole = [], 0.0
        for row, poisons in methods:
            keys = [*dict.fromkeys(key for found in poisons["keys"] for key in found)]
            cells = part[part["key"].isin(keys)].drop_duplicates("key")
            noise = _minutes(poisons, "generation_seconds", "generation_warmup_seconds")
            shared = np.nan_to_num(numbers(cells["packed"]), nan=1) if "packed" in cells else 1
            training = _minutes(
                cells, "preparation_seconds", "training_seconds", "warmup_seconds", among=shared
            )
            evaluation = _minutes(cells, "evaluation_seconds", among=shared)
            parts = (noise, training, evaluation)
            entries = tuple(number([value], keys) for value in (*parts, sum(parts)))
            rows.append(replace(row, entries=entries))
            whole += sum(parts)
        devices = " + ".join(sorted({str(device) for device in part["device"]}))
        total = f"All together {whole:,.1f} minutes ({whole / 60:,.1f} hours)."
        title = f"{poison_title(part)}, {devices}"
        notes = (_NOTE, total)
        yield Table("cost", "Cost of the results", title, _COLUMNS, tuple(rows), notes=notes)


def _minutes(cells: pd.DataFrame, *kinds: str, among: Floats | int = 1) -> float:
    """Return the sum of seconds, in minutes; what was not measured is 0."""
    known = [np.nan_to_num(numbers(cells[kind])) / among for kind in kinds if kind in cells]
    return float(sum(one.sum() for one in known) / 60)
