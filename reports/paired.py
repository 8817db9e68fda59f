"""Paired comparisons of methods on their common seeds, and ranks with intervals."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pandas as pd

from unlearnable_bench import Report, option
from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.reports.main import settings
from unlearnable_bench.results.aggregate import CONTROLS, finished, order_of, positions
from unlearnable_bench.results.intervals import FEWEST, NotComputable, by_seed
from unlearnable_bench.results.names import display, radius_note
from unlearnable_bench.results.needs import needs_of
from unlearnable_bench.results.pivot import caveats, cells, collapsed, column, shared
from unlearnable_bench.results.replicates import Design, Pair, replicates, seed_pairs
from unlearnable_bench.results.statistics import Paired as Comparison
from unlearnable_bench.results.statistics import compare_paired, rank_intervals
from unlearnable_bench.results.table import Column, Entry, Row, Table

# Attack and noise radius of a method; its accuracy by the seeds of noise and training.
Method = tuple[str, str]
Results = dict[Method, dict[Pair, float]]

_COLUMNS = (
    Column("Seeds", digits=0),
    Column("Difference", digits=2),
    Column("95 % interval"),
    Column("p"),
    Column("p (Holm)"),
)
_CAPTION = "Paired comparison: difference of clean test accuracy (percentage points)"
_NOTE = (
    "Difference: first minus second on the same seeds; below 0, the first protects better. "
    "Paired t-test, two-sided; Holm adjusts over the table. No p if all differences are equal."
)
_COLLAPSED = (
    "Training collapsed for some cells of {}: at chance on their own training images, their "
    "accuracy says nothing about the noise, and neither do its rank and differences."
)
_NOTHING = "--"  # all differences are equal
_RANKS = "Rank by clean test accuracy, with the simultaneous 95 % interval"
_RANKS_NOTE = (
    "Rank 1 is the lowest accuracy. The intervals are simultaneous, from paired tests of all "
    "methods adjusted by Holm."
)


@dataclass(frozen=True, kw_only=True)
class Paired(Report):
    """Paired differences of methods with intervals and p values, and ranks with intervals."""

    against: str = option("", "attack with which the others are compared; empty: all pairs")
    defended: bool = option(False, "comparison under each defense, not only without one")

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return the ranks of each setting, then the pairs at each of its rho_a.

        Raises:
            UserError: no two methods have three seeds in common.
        """
        return list(paired_tables(frame, self.against, defended=self.defended))


def paired_tables(
    frame: pd.DataFrame, against: str = "", *, defended: bool = False
) -> Iterator[Table]:
    """Yield the tables of ranks and of pairs for each data set, learner, preset and defense.

    Args:
        frame: from `load_records`.
        against: label of the attack with which the others are compared; empty: all pairs.
        defended: compare under each defense as well; otherwise only if all cells have a defense.

    Raises:
        UserError: an unknown attack, or no two methods with three seeds in common.
    """
    tables: list[Table] = []
    labels: set[str] = set()
    for part in settings(cells(finished(frame))):
        whole = part[(part["protect"] == 1) & ~part["attack"].isin(CONTROLS)]
        labels |= {*whole["attack"]}
        plain = whole[whole["defense"] == "none"]
        whole = plain if len(plain) and not defended else whole
        first = len(tables)
        radii = whole.groupby("defense")["rho_a"].nunique()
        swept = whole["defense"].map(radii) > 1
        for _, group in whole[swept].groupby("defense", sort=False):
            tables += _ranks(group, "rho_a")
        for _, group in whole[~swept].groupby("rho_a", sort=False):
            tables += _ranks(group, "defense")
        for _, group in whole.groupby(["defense", "rho_a"], sort=False):
            tables += _pairs(group, against)
        more = caveats(whole)
        names = ", ".join(map(display, dict.fromkeys(whole["attack"][collapsed(whole)])))
        if names:
            more.append(_COLLAPSED.format(names))
        tables[first:] = [replace(one, notes=(*one.notes, *more)) for one in tables[first:]]
    if against and against not in labels:
        raise unknown("attack", against, labels)
    if not tables:
        raise UserError(
            f"no two methods (except controls) have {FEWEST} seeds in common; run more seeds, such "
            "as --seeds 0-4"
        )
    yield from tables


def _results(group: pd.DataFrame) -> Results:
    found: Results = {}
    seeds, values = seed_pairs(group), group["test_accuracy"].astype(float).tolist()
    for (attack, rho_u), places in positions(group, ["attack", "rho_u"]):
        mine = places.tolist()
        found[attack, rho_u] = by_seed([seeds[k] for k in mine], [values[k] for k in mine])
    return found


def _labels(group: pd.DataFrame) -> dict[Method, Row]:
    """Return a row without entries for each method."""
    methods = [*dict.fromkeys(zip(group["attack"], group["rho_u"], strict=True))]
    count = Counter(attack for attack, _ in methods)
    return {
        (attack, rho_u): Row(
            attack,
            (),
            radius_note(attack, rho_u, always=count[attack] > 1),
            radius_note(attack, rho_u, always=True),
        )
        for attack, rho_u in methods
    }


def _keys(group: pd.DataFrame) -> dict[Method, list[tuple[int, str]]]:
    """Return the keys of each method's records, each with its position in the frame."""
    found: dict[Method, list[tuple[int, str]]] = {}
    if "key" in group:
        rows = zip(group["attack"], group["rho_u"], group["key"], strict=True)
        for number, (attack, rho_u, key) in enumerate(rows):
            found.setdefault((attack, rho_u), []).append((number, key))
    return found


def _pairs(group: pd.DataFrame, against: str) -> Iterator[Table]:
    """Yield the table of pairs, if any two methods have enough seeds in common."""
    results = _results(group)
    pairs = [
        (other, one) if one[0] == against else (one, other)
        for one, other in combinations(results, 2)
        if not against or against in (one[0], other[0])
    ]
    compared = {
        (one, other): compare_paired(results[one], results[other], resample=False)
        for one, other in pairs
    }
    enough = {pair: one for pair, one in compared.items() if one.n >= FEWEST}
    if not enough:
        return
    adjusted = _holm(list(enough.values()))
    labels, keys = _labels(group), _keys(group)
    rows = []
    for ((first, second), one), corrected in zip(enough.items(), adjusted, strict=True):
        of_both = sorted([*keys.get(first, ()), *keys.get(second, ())])
        entries = _entries(one, corrected, tuple(key for _, key in of_both))
        rows.append(_against(replace(labels[first], entries=tuple(entries)), labels[second]))
    designs = (Design.of(one.seeds) for one in enough.values())
    notes = (_NOTE, *Design.notes(design for design in designs if design))
    title, needs = shared(group, "none"), needs_of(group)
    yield Table("paired", _CAPTION, title, _COLUMNS, tuple(rows), "Methods", notes, needs)


def _against(first: Row, second: Row) -> Row:
    """Return the row of a pair, with both budgets if one is not 8/255."""
    note = f"{first.budget} vs {second.budget}" if first.note or second.note else ""
    return Row(first.label, first.entries, note, versus=second.label)


def _entries(one: Comparison, corrected: float | None, keys: tuple[str, ...]) -> list[Entry | None]:
    interval = None
    if not isinstance(one.interval, NotComputable):
        interval = (one.interval.low, one.interval.high)
    mean = None if isinstance(one.mean, NotComputable) else one.mean
    p_value = None if isinstance(one.p_value, NotComputable) else one.p_value
    between = f"[{interval[0]:z.2f}, {interval[1]:z.2f}]" if interval else _NOTHING
    return [
        Entry(float(one.n), keys=keys),
        Entry(mean, interval=interval, keys=keys),
        Entry(text=between, keys=keys),
        Entry(text=p_text(p_value), keys=keys),
        Entry(text=p_text(corrected), keys=keys),
    ]


def p_text(p_value: float | None) -> str:
    """Return a p value as text: three decimals, or `<0.001`.

    It is always text, because siunitx prints 1e-7 in a column of three decimals as 1.
    """
    if p_value is None:
        return _NOTHING
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _holm(compared: Sequence[Comparison]) -> list[float | None]:
    """Return the p values adjusted by Holm; None for a comparison without one."""
    raw = [None if isinstance(one.p_value, NotComputable) else one.p_value for one in compared]
    known = [p_value for p_value in raw if p_value is not None]
    if not known:
        return [None] * len(raw)

    from statsmodels.stats.multitest import multipletests  # noqa: PLC0415 - needs a second

    adjusted = iter(multipletests(known, method="holm")[1])
    return [None if p_value is None else float(next(adjusted)) for p_value in raw]


def _ranks(group: pd.DataFrame, axis: str) -> Iterator[Table]:
    """Yield the table of ranks along an axis, if any two methods can be ranked."""
    values = [*dict.fromkeys(group[axis])]
    if axis == "rho_a":
        values.sort(key=order_of)
    places = {value: one for (value,), one in positions(group, [axis])}
    found = {value: _ranked(group.iloc[places[value]]) for value in values}
    shown = [value for value in values if found[value]]
    methods = dict.fromkeys(method for value in shown for method in found[value])
    labels = _labels(group)
    if shown:
        yield Table(
            "paired",
            _RANKS,
            shared(group, axis),
            tuple(column(axis, value) for value in shown),
            tuple(
                replace(labels[one], entries=tuple(found[value].get(one) for value in shown))
                for one in methods
            ),
            notes=(_RANKS_NOTE, *_design_notes(group)),
            needs=needs_of(group),
        )


def _design_notes(group: pd.DataFrame) -> list[str]:
    pairs = seed_pairs(group)
    designs = [
        Design.of([pairs[k] for k in places])
        for _, places in positions(group, ["attack", "rho_u", "defense", "rho_a"])
    ]
    return Design.notes(design for design in designs if design)


def _ranked(group: pd.DataFrame) -> dict[Method, Entry]:
    """Return the rank of each method with at least three seeds, if there are two such methods."""
    results, keys = _results(group), _keys(group)
    # `rank_intervals` identifies a method by one text.
    ranks = rank_intervals({"\n".join(method): values for method, values in results.items()})
    return {
        method: Entry(
            float(one.rank),
            seeds=len(replicates([*results[method]])),
            interval=(float(one.low), float(one.high)),
            text=f"{one.rank} [{one.low}, {one.high}]",
            keys=tuple(key for _, key in keys.get(method, ())),
        )
        for method, one in zip(results, ranks.values(), strict=True)
        if not isinstance(one, NotComputable) and one.of > 1
    }
