"""The data of the page: all cells as columns, all tables and all figures."""

import base64
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from unlearnable_bench.contract import Report
from unlearnable_bench.errors import UserError, plugin_errors
from unlearnable_bench.planning import registry
from unlearnable_bench.reports._sheet import arrange, marks_of, text_of
from unlearnable_bench.results.aggregate import each_once, order_of
from unlearnable_bench.results.command import recipe_of
from unlearnable_bench.results.names import display, parse_aliases
from unlearnable_bench.results.needs import UNKNOWN
from unlearnable_bench.results.pivot import cells
from unlearnable_bench.results.rendering import DEFAULT, TABLE_FORMATS, rendered, saved
from unlearnable_bench.results.replicates import are_equal, seed_pairs
from unlearnable_bench.results.style import TableStyle
from unlearnable_bench.results.table import MARKS, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = ("dataset", "attack", "learner", "defense", "preset")
_NEEDS = ("attack_needs", "defense_needs", "learner_needs")
# Columns of the frame that the page shows, if they exist.
_COLUMNS = (
    "attack", "dataset", "learner", "defense", "rho_a", "rho_u", "protect", "preset",
    "noise_seed", "seed",
    "test_accuracy", "protected_accuracy", "peak_accuracy", "train_accuracy", "epoch_accuracy",
    "generation_seconds", "preparation_seconds", "training_seconds", "warmup_seconds",
    "evaluation_seconds", "generation_resumed", "resumed", "packed", "peak_memory", "device",
    "generation_device", "environment", "generation_environment", "linf", "l2", "psnr", "ssim",
    "poison", "status", "reason", "created", "folder", "key", "setting", "classes",
    *_NEEDS,
)  # fmt: skip
# The filters, in their order on the page.
_FILTERS = {
    "attack": "Method", "dataset": "Data set", "learner": "Learner", "defense": "Defense",
    "rho_a": "rho_a", "preset": "Preset", "attack_needs": "Method needs",
    "defense_needs": "Defense needs", "learner_needs": "Learner needs", "status": "Status",
}  # fmt: skip
_LARGEST_SVG = 1_500_000  # bytes; a larger figure is embedded as PNG


def page_data(frame: pd.DataFrame, aliases: str = "") -> dict[str, Any]:
    """Return all data of the page, ready for JSON.

    Args:
        frame: from `load_records`.
        aliases: names to print instead of labels, such as `sem=Ours,em=EM*`.

    Raises:
        UserError: invalid aliases.
    """
    names = parse_aliases(aliases)
    frame = each_once(frame)
    needs = [name for name in _NEEDS if name in frame]
    frame = frame.assign(**{name: frame[name].fillna("").replace("", UNKNOWN) for name in needs})
    shown = cells(frame)
    place = {key: number for number, key in enumerate(frame["key"])} if "key" in frame else {}
    found: dict[str, Any] = {
        "count": len(frame),
        "columns": _columns(frame, shown),
        "names": {
            label: display(label, names)
            for column in _LABELS
            for label in dict.fromkeys(shown[column])
        },
        "filters": _filters(shown),
        "marks": {mark: list(pair) for mark, pair in MARKS.items()},
        "groups": [],
        "figures": [],
        "left_out": [],
    }
    for name, kind in _reports():
        _add_report(found, name, kind, frame, aliases, place)
    return found


def _reports() -> Iterator[tuple[str, type[Report] | UserError]]:
    """Yield reports of tables and figures; the main tables first, as `ubench run` prints them."""
    names = registry.reports.names()
    for name in [*DEFAULT, *(name for name in names if name not in DEFAULT)]:
        try:
            kind = registry.reports.get(name)
        except UserError as error:
            yield name, error
            continue
        # A report with its own suffix is text or a file: a CSV, this page.
        if kind.suffix == Report.suffix and name not in TABLE_FORMATS:
            yield name, kind


def _add_report(
    found: dict[str, Any],
    name: str,
    kind: type[Report] | UserError,
    frame: pd.DataFrame,
    aliases: str,
    place: Mapping[str, int],
) -> None:
    """Add the output of a report, or the reason why it has none."""
    try:
        if isinstance(kind, UserError):
            raise kind
        options = {"aliases": aliases} if aliases and hasattr(kind, "aliases") else {}
        content = rendered(registry.reports.choose(name, options).plugin, name, frame)
        if isinstance(content, list):
            tables = [_table(table, aliases, place) for table in content]
            if tables:
                found["groups"].append({"name": name, "about": kind.summary(), "tables": tables})
        elif not isinstance(content, str | bytes):
            figure = {"name": name, "about": kind.summary(), "image": _image(content)}
            found["figures"].append(figure | _figure_data(kind, frame, place))
    except UserError as error:
        found["left_out"].append([name, " ".join(str(error).split())])


def _columns(frame: pd.DataFrame, shown: pd.DataFrame) -> dict[str, Any]:
    """Return the columns by name, each compressed; labels as in the tables."""
    left_out = {"noise_seed"} if are_equal(seed_pairs(frame)) else set()
    columns = {
        name: _packed((shown if name in (*_LABELS, "rho_a", "rho_u") else frame)[name].tolist())
        for name in _COLUMNS
        if name in frame and name not in left_out
    }
    wanted = ["setting", *_LABELS, "rho_a", "rho_u", "protect"]
    if set(wanted) <= {*frame.columns}:
        rows = zip(*(frame[name].tolist() for name in wanted), strict=True)
        recipes = [recipe_of(dict(zip(wanted, row, strict=True))) for row in rows]
        columns["command"] = _packed([recipe.command for recipe in recipes])
        columns["command_notes"] = _packed([list(recipe.notes) for recipe in recipes])
    return columns


def _packed(values: Sequence[Any]) -> dict[str, Any]:
    """Return a column as one value, or as distinct values and their indices if that is shorter."""
    # 1, 1.0 and True are equal, so the type is part of the key.
    places: dict[Any, int] = {}
    distinct: list[Any] = []
    index = []
    for given in values:
        value = None if isinstance(given, float) and math.isnan(given) else given
        key = (type(value), json.dumps(value) if isinstance(value, dict | list) else value)
        place = places.setdefault(key, len(distinct))
        if place == len(distinct):
            distinct.append(_plain(value))
        index.append(place)
    if len(distinct) == 1:
        return {"same": distinct[0]}
    if len(distinct) > len(index) // 2:
        return {"values": [distinct[place] for place in index]}
    return {"values": distinct, "index": index}


def _plain(value: Any) -> Any:
    """Return a value for JSON; an unknown value is null."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [
            one if type(one) in (int, float) and math.isfinite(one) else _plain(one)
            for one in value
        ]
    if hasattr(value, "item"):  # a numpy number
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return None if pd.isna(value) else str(value)


def _filters(shown: pd.DataFrame) -> list[dict[str, Any]]:
    found = []
    for column, label in _FILTERS.items():
        if column not in shown:
            continue
        values = [str(value) for value in dict.fromkeys(shown[column])]
        if column == "rho_a":
            values.sort(key=order_of)
        found.append({"column": column, "label": label, "values": values})
    return found


def _table(table: Table, aliases: str, place: Mapping[str, int]) -> dict[str, Any]:
    """Return a table; each entry has its text, its number and its cells."""
    style = TableStyle(aliases=aliases)
    sheet = arrange(table, style)
    rows = [
        {
            "name": name,
            "entries": [
                None
                if cell is None
                else {
                    "text": text_of(cell, " ± ", style),
                    "value": _plain(cell.entry.mean),
                    "std": _plain(cell.entry.std) if cell.entry.seeds > 1 else None,
                    "seeds": cell.entry.seeds,
                    "interval": _plain(cell.entry.interval),
                    "best": cell.entry.best,
                    "marks": [symbol for symbol, _ in marks_of(cell)],
                    "cells": [place[key] for key in cell.entry.keys if key in place],
                }
                for cell in entries
            ],
        }
        for name, entries in sheet.rows
    ]
    return {
        "caption": table.caption,
        "title": table.title,
        "corner": sheet.corner,
        "headings": list(sheet.headings),
        "rows": rows,
        "notes": list(sheet.notes),
        "legend": [list(pair) for pair in sheet.legend],
        "sources": list(sheet.sources),
    }


def _image(figure: "Figure") -> str:
    """Return a figure as a data URI, in which browsers run no script."""
    content, kind = saved(figure, "svg"), "svg+xml"
    if len(content) > _LARGEST_SVG:
        content, kind = saved(figure, "png"), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _figure_data(
    kind: type[Report], frame: pd.DataFrame, place: Mapping[str, int]
) -> dict[str, Any]:
    """Return the numbers of a figure, if its module defines a function for them."""
    module = sys.modules[kind.__module__]
    for name, function in vars(module).items():
        # An imported helper, such as `sweep_data`, has other arguments.
        own = getattr(function, "__module__", "") == kind.__module__
        if own and name.endswith("_data") and not name.startswith("_") and callable(function):
            with plugin_errors(name):
                data = function(frame)
            if isinstance(data, pd.DataFrame):
                columns = {str(name): data[name].tolist() for name in data}
                # Keys are long and already on the page, so the index of the cell replaces them.
                if "keys" in columns:
                    columns["keys"] = [
                        [place[key] for key in keys.split() if key in place]
                        for keys in columns["keys"]
                    ]
                return {"data": {name: _packed(values) for name, values in columns.items()}}
    return {}
