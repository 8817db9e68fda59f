"""The tables of a paper: methods as rows, one axis as columns."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unlearnable_bench.errors import UserError
from unlearnable_bench.presets import load_preset, preset_names
from unlearnable_bench.results.aggregate import (
    CONTROLS,
    Places,
    distinct_labels,
    each_once,
    finished_mask,
    mean,
    numbers,
    order_of,
    positions,
)
from unlearnable_bench.results.intervals import NotComputable, summarise
from unlearnable_bench.results.names import display, is_numbered, radius_note
from unlearnable_bench.results.needs import needs_of
from unlearnable_bench.results.replicates import (
    Design,
    are_equal,
    independent,
    seed_pairs,
    seeds_text,
)
from unlearnable_bench.results.statistics import NoWinner, Winner, winner
from unlearnable_bench.results.table import MARKS, Column, Entry, Mark, Row, Table

_ABOVE_CHANCE = 1.5  # percentage points: a learner this close to chance has learned nothing
LOWER = "Lower means stronger protection."


def cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return all cells with their final labels; unfinished ones get the noise radius of the rest.

    Args:
        frame: from `load_records`.
    """
    frame = each_once(frame)
    done = distinct_labels(frame)
    if "status" not in frame or len(done) == len(frame):
        return done
    open_cells = frame[frame["status"] != "done"].copy()
    known = done.drop_duplicates("attack").set_index("attack")["rho_u"].to_dict()
    radii = zip(open_cells["attack"], open_cells["rho_u"], strict=True)
    # A text column has NaN for an unknown radius.
    requested = [(attack, radius if isinstance(radius, str) else "") for attack, radius in radii]
    open_cells["rho_u"] = [known.get(attack, radius) for attack, radius in requested]
    both = pd.concat([done, open_cells]).loc[frame.index]
    return both.assign(rho_a=_alike(both["rho_a"]))


def _alike(radii: Iterable[str]) -> list[str]:
    every = list(radii)
    first: dict[float, str] = {}
    names = {text: first.setdefault(order_of(text), text) for text in dict.fromkeys(every)}
    return [names[text] for text in every]


def pivot(
    name: str,
    part: pd.DataFrame,
    axis: str,
    *,
    kind: str = "test_accuracy",
    title: Sequence[str] = (),
) -> Table:
    """Arrange cells that differ only in method, one axis and seed.

    Args:
        name: name of the report.
        part: cells, from `cells`.
        axis: column of the frame: `rho_a`, `defense`, `learner`, `protect`, or one of your own.
        kind: `test_accuracy` or `protected_accuracy`.
        title: texts after data set, learner and preset in the title.
    """
    _refuse_mixture(part, axis)
    values = [*dict.fromkeys(part[axis])]
    if axis in ("rho_a", "protect"):
        values.sort(key=order_of if axis == "rho_a" else float)
    several = part.groupby("attack")["rho_u"].nunique().to_dict()
    labels = part.drop_duplicates(["attack", "rho_u"])[["attack", "rho_u"]].to_dict("records")
    entries_of = Entries(part, ["attack", "rho_u", axis], kind)
    found: dict[tuple[str, str], list[Entry | None]] = {}
    for label in sorted(labels, key=lambda label: label["attack"] not in CONTROLS):
        row = label["attack"], label["rho_u"]
        found[row] = [entries_of.entry((*row, value)) for value in values]
    reasons = _bold(found, len(values))
    rows = tuple(
        Row(
            attack,
            tuple(entries),
            radius_note(attack, rho_u, always=several[attack] > 1),
            radius_note(attack, rho_u, always=True),
        )
        for (attack, rho_u), entries in found.items()
    )
    table = Table(
        name,
        "Clean test accuracy (%)",
        ", ".join([shared(part, axis), *title]),
        tuple(column(axis, value) for value in values),
        rows,
        needs=needs_of(part),
    )
    return with_notes(table, part, reasons)


def _refuse_mixture(part: pd.DataFrame, axis: str) -> None:
    """Refuse cells that one entry would average although they are not replicates."""
    for name in ("dataset", "learner", "preset", "defense", "rho_a", "protect"):
        found = [*dict.fromkeys(part[name])]
        if name != axis and len(found) > 1:
            raise UserError(
                f"a table over {axis} mixes cells of several {name}s "
                f"({', '.join(map(str, found))}); split them first, as `settings` does"
            )


class Entries:
    """The entries of a table: cells that differ only in their seeds share one.

    Columns are extracted from the frame once, because a table can have hundreds of entries.

    Args:
        part: cells, finished or not.
        by: columns that identify an entry.
        kind: the column to average.
    """

    def __init__(self, part: pd.DataFrame, by: Sequence[str], kind: str) -> None:
        self.places: dict[tuple[Any, ...], Places] = dict(positions(part, by))
        self._kind = numbers(part[kind])
        self._done = finished_mask(part).to_numpy(bool)
        self._status = part["status"].to_numpy(object) if "status" in part else None
        self._peak = numbers(part["peak_accuracy"]) if "peak_accuracy" in part else None
        self._keys = part["key"].to_numpy(object) if "key" in part else None
        self._collapsed = collapsed(part)
        self._pairs = seed_pairs(part)
        self._attacks = part["attack"].to_numpy(object)
        named = zip(self._attacks, self._pairs, strict=True)
        self._apart = {attack for attack, (noise, seed) in named if noise != seed}
        done = (self._pairs[k][1] for k in np.flatnonzero(self._done))
        # Clean images have no seed of the noise: theirs are those of training.
        self._seeds = 0 if are_equal(self._pairs) else len({*done})
        noises = (
            len({self._pairs[k][0] for k in one[self._done[one]]})
            for one in self.places.values()
            if not self._apart or self._attacks[one[0]] in self._apart
        )
        self._noises = max(noises, default=0)

    def entry(self, key: tuple[Any, ...]) -> Entry | None:
        """Return one entry, or None if no plan has such a cell.

        Args:
            key: values of the columns `by`.
        """
        if key not in self.places:
            return None
        places = self.places[key]
        done = places[self._done[places]]
        marks: list[Mark] = []
        if self._status is not None:
            states = {*self._status[places]}
            marks += [mark for mark in ("failed", "missing") if mark in states]
        known = done[~np.isnan(self._kind[done])]
        if not len(known):
            keys = tuple(self._keys[places]) if self._keys is not None else ()
            return Entry(seeds=0, marks=tuple(marks), keys=keys) if marks else None
        apart = self._attacks[places[0]] in self._apart
        design = Design.of([self._pairs[k] for k in known], apart=apart)
        noises = len({self._pairs[k][0] for k in known})
        if noises < (self._seeds if self._seeds and design is None else self._noises):
            marks.append("fewer")
        if self._collapsed[done].any():
            marks.append("collapsed")
        values = self._independent(self._kind, known)
        found = summarise(values, bounds=(0, 100))
        interval = found.shown
        return Entry(
            _number(found.mean),
            _number(found.std) or 0.0,
            found.n,
            None if isinstance(interval, NotComputable) else (interval.low, interval.high),
            peak=None if self._peak is None else mean(self._independent(self._peak, done)),
            marks=tuple(mark for mark in MARKS if mark in marks),
            keys=tuple(self._keys[known]) if self._keys is not None else (),
            seed_values=tuple(values.tolist()),
            design=design,
        )

    def _independent(
        self, column: npt.NDArray[np.float64], places: Places
    ) -> npt.NDArray[np.float64]:
        return independent([self._pairs[k] for k in places], column[places])


def _number(value: float | NotComputable) -> float | None:
    return None if isinstance(value, NotComputable) else value


def collapsed(part: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return for each cell whether its learner is at chance on both test and training images.

    Such a learner has learned nothing, which would look like a perfect poison.
    """
    if not {"classes", "train_accuracy"} <= {*part.columns}:
        return np.zeros(len(part), np.bool_)
    classes, test, train = (
        numbers(part[name]) for name in ("classes", "test_accuracy", "train_accuracy")
    )
    chance = 100 / classes + _ABOVE_CHANCE
    return (test < chance) & (train < chance)


def _bold(found: dict[tuple[str, str], list[Entry | None]], columns: int) -> list[str]:
    """Mark the bold entry of each column; return the reason for each column without one."""
    reasons = []
    for k in range(columns):
        entries = {row: each for row, of_row in found.items() if (each := of_row[k])}
        clean = [each.mean for (attack, _), each in entries.items() if attack == "clean"]
        compared = {
            "\n".join(row): each
            for row, each in entries.items()
            # A learner that has learned nothing says nothing about the noise.
            if row[0] not in CONTROLS and each.seed_values and "collapsed" not in each.marks
        }
        methods = {row: summarise(each.seed_values) for row, each in compared.items()}
        best = winner(methods, clean[0] if clean else None)
        if best.name and _one_noise(compared.values()):
            best = Winner(None, NoWinner.ONE_NOISE)
        reasons.append(str(best.reason or ""))
        for row, each in entries.items():
            if "\n".join(row) == best.name:
                found[row][k] = replace(each, best=True)
    return reasons


def _one_noise(methods: Iterable[Entry]) -> bool:
    """Return whether one of the two lowest methods has several learners of only one noise."""
    known = [(each.mean, each.design) for each in methods if each.mean is not None]
    lowest = sorted(known, key=itemgetter(0))[:2]
    return any(design is not None and design.one_noise for _, design in lowest)


def with_notes(table: Table, part: pd.DataFrame, reasons: Sequence[str] = ()) -> Table:
    """Return the table with notes on its seeds, spread, bold entries, marks and preset."""
    seeds = {entry.seeds for entry in table.entries if entry.mean is not None}
    notes = [LOWER]
    if seeds == {1}:
        notes.append("One seed: nothing is bold.")
    elif seeds:
        notes.append(f"Mean over {_seeds(table)}, with the sample standard deviation.")
        notes += Design.notes(entry.design for entry in table.entries if entry.design)
        if any(entry.best for entry in table.entries):
            notes.append("Bold: lowest mean, if its 95 % interval does not overlap the next one's.")
        elif reasons:
            why = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
            notes.append(f"Nothing is bold: {why}.")
    notes += [f"{MARKS[mark][0]} {MARKS[mark][1]}." for mark in table.marks]
    names = [row.label for row in table.rows] + [column.value for column in table.columns]
    if any(is_numbered(name) for name in names):
        notes.append(
            "#: other code, options or data under the same name; what was run last has no #."
        )
    return replace(table, notes=(*table.notes, *notes, *caveats(part)))


def caveats(part: pd.DataFrame) -> list[str]:
    """Return what a reader of accuracies must know of the presets of cells, a sentence each.

    A preset with changed schedules is another one, whose accuracy nobody compared.
    """
    names = dict.fromkeys(label.partition(" #")[0] for label in part["preset"])
    known = preset_names()
    found = (load_preset(name).caveat for name in names if name in known)
    return [caveat for caveat in found if caveat]


def _seeds(table: Table) -> str:
    known = [
        (display(row.label), entry)
        for row in table.rows
        for entry in row.entries
        if entry and entry.mean is not None
    ]
    return seeds_text(
        (entry.design for _, entry in known if entry.design),
        ((name, entry.seeds) for name, entry in known if not entry.design),
    )


def shared(part: pd.DataFrame, axis: str) -> str:
    """Return the common setting of the cells of a table, as text."""
    first = part.iloc[0]
    parts = [display(first["dataset"])]
    parts += [] if axis == "learner" else [display(first["learner"])]
    parts.append(f"{display(first['preset'])} preset")
    if axis != "rho_a" and len(set(part["rho_a"])) == 1:
        parts.append(f"rho_a {first['rho_a']}")
    if axis != "defense" and first["defense"] != "none":
        parts.append(f"defense {display(first['defense'])}")
    if axis != "protect" and first["protect"] != 1:
        parts.append(f"{100 * first['protect']:g} % protected")
    return ", ".join(parts)


def column(axis: str, value: Any) -> Column:
    """Return the heading of a column."""
    if axis == "rho_a":
        return Column(f"rho_a {value}", value, math=True)
    if axis == "protect":
        return Column(f"{100 * value:g} % protected", str(value))
    return Column(display(str(value)), str(value))
