"""The table of detection: how well networks recognise each poison."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._poisons import number, per_poison, poison_title, with_seeds
from unlearnable_bench.results.names import display
from unlearnable_bench.results.table import Column, Entry, Row, Table

_CAPTION = "Accuracy on held-out poisoned training images (%)"
_NOTE = (
    "Networks trained on four fifths of the poisoned training images and tested on the others; no "
    "test image. Far above clean: the poison is easy to detect."
)
_NO_CLEAN = "Clean images were not measured, so there is no difference to them."


@dataclass(frozen=True, kw_only=True)
class Detection(Report):
    """Accuracy of simple and shifted networks on held-out poisoned images, compared with clean."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set and preset.

        Raises:
            UserError: nothing was measured.
        """
        found = list(detection_tables(frame))
        if not found:
            raise UserError("no detection was measured; run `ubench detect FOLDER`")
        return found


def detection_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield a table for each data set and preset of whose poisons one was measured.

    Args:
        frame: from `load_records`.
    """
    if "detection" not in frame:
        return
    for part, methods in per_poison(frame, without=("remainder",)):
        tests = _tests(part)
        measured = [
            (row, poisons) for row, poisons in methods if any(map(bool, poisons["detection"]))
        ]
        if not measured:
            continue
        clean = {
            test: _mean(values)
            for row, poisons in measured
            if row.label == "clean"
            for test in tests
            if (values := _values(poisons, test))
        }
        others = [poisons for row, poisons in measured if row.label != "clean"]
        compared = {
            test: value
            for test, value in clean.items()
            if any(_values(poisons, test) for poisons in others)
        }
        columns, rows = [], [list[Entry | None]() for _ in measured]
        for test in tests:
            columns.append(Column(heading(test)))
            if test in compared:
                columns.append(Column(f"{heading(test)} vs clean"))
            for entries, (row, poisons) in zip(rows, measured, strict=True):
                entries.extend(_entries(row, poisons, test, compared.get(test)))
        table = Table(
            "detection",
            _CAPTION,
            poison_title(part),
            tuple(columns),
            tuple(
                replace(row, entries=tuple(entries))
                for (row, _), entries in zip(measured, rows, strict=True)
            ),
            notes=(_NOTE,) if clean else (_NOTE, _NO_CLEAN),
        )
        yield with_seeds(table)


def heading(test: str) -> str:
    """Return the heading of a test: `Linear`, `Two-layer (epochs=20)`, `Shift -0.5, ResNet-18`."""
    name, bracket, inside = test.partition("[")
    kind, *rest = name.split(" ")
    text = kind.capitalize()
    if rest:
        shift, learner = rest
        text = f"{text} {shift}, {display(learner)}"
    return f"{text} ({inside.removesuffix(']')})" if bracket else text


def _tests(part: pd.DataFrame) -> list[str]:
    """Return the names of the tests: the simple networks first, then the shifts."""
    names = dict.fromkeys(name for found in part["detection"] for name in found)
    order = ("linear", "two-layer", "shift -", "shift +")

    def place(name: str) -> tuple[int, str]:
        return next((k for k, one in enumerate(order) if name.startswith(one)), len(order)), name

    return sorted(names, key=place)


def _values(poisons: pd.DataFrame, test: str) -> list[float]:
    return [found[test] for found in poisons["detection"] if test in found]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _entries(row: Row, poisons: pd.DataFrame, test: str, clean: float | None) -> list[Entry | None]:
    """Return the entry of a test, and its difference to clean if that was measured."""
    keys = [
        key
        for found, keys in zip(poisons["detection"], poisons["keys"], strict=True)
        if test in found
        for key in keys
    ]
    values = _values(poisons, test)
    entries = [number(values, keys)]
    if clean is not None:
        differences = [] if row.label == "clean" else [value - clean for value in values]
        entries.append(number(differences, keys, lowest=None))
    return entries
