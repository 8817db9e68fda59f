"""The table of generation time: seconds, hardware and speed-up against one method."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from unlearnable_bench import Report, option
from unlearnable_bench.errors import unknown
from unlearnable_bench.reports._poisons import number, per_poison, poison_title, with_seeds
from unlearnable_bench.results.aggregate import CONTROLS
from unlearnable_bench.results.names import display
from unlearnable_bench.results.table import Column, Entry, Mark, Row, Table

# This attack reads its poison from a file, so its seconds are not a generation time.
_READ = "file"
_USUAL = "rem"
_NOTE = "Seconds per poison, without compilation and CUDA graph capture (warm-up)."
# Versions that change the time of the same work.
_VERSIONS = ("driver", "cuda", "cudnn", "packages")


@dataclass(frozen=True, kw_only=True)
class Time(Report):
    """Generation time of each method: seconds without warm-up, hardware and speed-up."""

    against: str = option(
        "",
        "reference attack for the speed-up; empty: rem if it ran, otherwise the slowest",
    )

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set and preset.

        Raises:
            UserError: no record of the reference attack.
        """
        return list(time_tables(frame, self.against))


def time_tables(frame: pd.DataFrame, against: str = "") -> Iterator[Table]:
    """Yield a table for each data set and preset with a method that was timed.

    Args:
        frame: from `load_records`.
        against: label of the reference attack; empty: `rem` if it ran, otherwise the slowest.

    Raises:
        UserError: no record of the reference attack.
    """
    labels: set[str] = set()
    tables = []
    for part, methods in per_poison(frame):
        timed = [(row, poisons) for row, poisons in methods if _is_timed(row)]
        labels |= {row.label for row, _ in timed}
        if timed and (not against or any(row.label == against for row, _ in timed)):
            tables.append(_table(part, timed, against))
    if against and not tables:
        raise unknown("attack with a generation time", against, labels)
    yield from tables


def _is_timed(row: Row) -> bool:
    return row.label not in CONTROLS and row.label.partition("[")[0].partition(" #")[0] != _READ


def _table(part: pd.DataFrame, methods: Sequence[tuple[Row, pd.DataFrame]], against: str) -> Table:
    seconds = [float(poisons["generation_seconds"].mean()) for _, poisons in methods]
    base = _base([row.label for row, _ in methods], seconds, against)
    speed_ups = [seconds[base] / one if one else float("inf") for one in seconds]
    reference, base_poisons = methods[base]
    name = display(reference.label)
    digits = 1 if min(speed_ups) >= 1 else 2
    columns = [Column("Generation (s)", digits=1), Column("Warm-up (s)", digits=1)]
    columns += [Column(f"Speed-up vs {name}", digits=digits), Column("Hardware")]
    rows = [
        replace(row, entries=_entries(poisons, base_poisons, speed_up))
        for (row, poisons), speed_up in zip(methods, speed_ups, strict=True)
    ]
    shown = [any(row.entries[k] is not None for row in rows) for k in range(len(columns))]
    shown[2] &= len(rows) > 1
    cards = {entry.text for row in rows if (entry := row.entries[-1])}
    title = poison_title(part)
    if len(cards) == 1:
        title += f", {cards.pop()}"
        shown[-1] = False
    table = Table(
        "time",
        "Generation time",
        title,
        tuple(column for column, show in zip(columns, shown, strict=True) if show),
        tuple(replace(row, entries=_chosen(row.entries, shown)) for row in rows),
        notes=(_NOTE,),
    )
    return with_seeds(table)


def _chosen(entries: Sequence[Entry | None], shown: Sequence[bool]) -> tuple[Entry | None, ...]:
    return tuple(entry for entry, show in zip(entries, shown, strict=True) if show)


def _base(labels: Sequence[str], seconds: Sequence[float], against: str) -> int:
    """Return the index of the reference method."""
    wanted = against or _USUAL
    if wanted in labels:
        return labels.index(wanted)
    return max(range(len(labels)), key=lambda k: seconds[k])


def _entries(
    poisons: pd.DataFrame, base: pd.DataFrame, speed_up: float
) -> tuple[Entry | None, ...]:
    keys = [key for found in poisons["keys"] for key in found]
    own = _marks(poisons)
    both = _marks(pd.concat([poisons, base]))
    warmup = poisons.get("generation_warmup_seconds", pd.Series(dtype=float))
    cards = sorted({str(device) for device, _ in _machines(poisons)})
    base_keys = [key for found in base["keys"] for key in found]
    return (
        number(poisons["generation_seconds"], keys, own),
        number(warmup, keys),
        number([speed_up], [*keys, *(key for key in base_keys if key not in keys)], both),
        Entry(text=" + ".join(cards), keys=tuple(keys)),
    )


def _marks(poisons: pd.DataFrame) -> list[Mark]:
    marks: list[Mark] = []
    if "generation_resumed" in poisons and poisons["generation_resumed"].any():
        marks.append("resumed")
    kinds = [_kind(*one) for one in _machines(poisons)]
    if any(one != kinds[0] for one in kinds):
        marks.append("mixed")
    return marks


def _machines(poisons: pd.DataFrame) -> list[tuple[str, Mapping[str, Any]]]:
    """Return device and environment of each generation."""
    return [one for of_seed in poisons["machines"] for one in of_seed]


def _kind(device: str, environment: Mapping[str, Any]) -> list[Any]:
    """Return what changes the time of the same work."""
    # Without a driver there is no GPU, and all work is done by these threads.
    threads = None if environment.get("driver") else environment.get("threads")
    return [device, threads, *(environment.get(name) for name in _VERSIONS)]
