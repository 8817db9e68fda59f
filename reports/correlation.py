"""The robustness-protection correlation as a table (the SEM paper's Figure 3 in numbers)."""

from dataclasses import dataclass, replace

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.results.correlation import Correlation, PermutationP
from unlearnable_bench.results.intervals import Interval, NotComputable
from unlearnable_bench.results.names import display
from unlearnable_bench.results.pivot import caveats
from unlearnable_bench.results.table import Column, Entry, Row, Table
from unlearnable_bench.results.variants import QUANTITIES, correlations, seeds_note, variants

_COLUMNS = (
    Column("n", digits=0), Column("Pearson r", digits=2), Column("95 % (Fisher z)"),
    Column("95 % (bootstrap)"), Column("p"), Column("Spearman rho", digits=2), Column("p (rho)"),
    Column("partial r", digits=2), Column("95 % (partial)"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CorrelationTable(Report):
    """Correlation of robustness, delusiveness and stability with protection, with intervals."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return the table of correlations, and the table of the variants."""
        points = variants(frame)
        return [_correlations(points), _points(points)]


def _correlations(points: pd.DataFrame) -> Table:
    found = correlations(points)
    keys = tuple(key for of_row in points["keys"] for key in of_row)
    rows, notes = [], [f"{q.name}: {q.meaning}." for q in QUANTITIES]
    given = {quantity.column: quantity.name.lower() for quantity in QUANTITIES}
    notes.append(
        "Partial r controls for "
        + "; ".join(f"{given[q.given]} (for {q.name.lower()})" for q in QUANTITIES)
        + ". p: two-sided permutation test."
    )
    for quantity in QUANTITIES:
        correlation = found[quantity.column]
        if isinstance(correlation.pearson, NotComputable):
            notes.append(f"{quantity.name}: {correlation.pearson}.")
        entries = (replace(entry, keys=keys) for entry in _entries(correlation))
        rows.append(Row(quantity.name, tuple(entries)))
    caption = "Correlation with protection under adversarial training"
    return Table(
        "correlation", caption, _title(points), _COLUMNS, tuple(rows), "Quantity", tuple(notes)
    )


def _entries(found: Correlation) -> list[Entry]:
    partial = found.partial
    return [
        Entry(float(found.n)),
        _number(found.pearson),
        _interval(found.fisher),
        _interval(found.bootstrap),
        _p(found.pearson_p),
        _number(found.spearman),
        _p(found.spearman_p),
        _number(partial.r) if partial else _NOTHING,
        _interval(partial.interval) if partial else _NOTHING,
    ]


_NOTHING = Entry(text="-")


def _number(value: float | NotComputable) -> Entry:
    return _NOTHING if isinstance(value, NotComputable) else Entry(value)


def _interval(value: Interval | NotComputable) -> Entry:
    if isinstance(value, NotComputable):
        return _NOTHING
    # A minus sign instead of a hyphen.
    return Entry(text=f"[{value.low:.2f}, {value.high:.2f}]".replace("-", "\N{MINUS SIGN}"))


def _p(found: PermutationP | NotComputable) -> Entry:
    if isinstance(found, NotComputable):
        return _NOTHING
    return Entry(text="<0.001" if found.value < 0.001 else f"{found.value:.3f}")


def _points(points: pd.DataFrame) -> Table:
    names = [quantity.column for quantity in QUANTITIES]
    rows = tuple(
        Row(
            point["attack"],
            tuple(
                None if pd.isna(point[name]) else Entry(point[name], keys=point["keys"])
                for name in ("protection", *names)
            ),
        )
        for point in points.to_dict("records")
    )
    columns = (
        Column("Protection (points)", "protection"),
        *(
            Column(f"{q.name} ({q.unit})", q.column, 2 if "loss under" in q.unit else None)
            for q in QUANTITIES
        ),
    )
    notes = (seeds_note(points), *caveats(points))
    caption = "Variants of the noise"
    return Table("variants", caption, _title(points), columns, rows, "Variant", notes)


def _title(points: pd.DataFrame) -> str:
    first = points.iloc[0]
    names = (display(first[name]) for name in ("dataset", "learner", "preset"))
    return f"{', '.join(names)} preset, rho_a {first['rho_a']}, {len(points)} variants"
