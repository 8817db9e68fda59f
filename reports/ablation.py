"""Ablations: variants of one method as rows, radii of adversarial training as columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unlearnable_bench import Report, option
from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.reports.main import settings
from unlearnable_bench.results.aggregate import CONTROLS
from unlearnable_bench.results.names import display, option_text, outside_brackets
from unlearnable_bench.results.pivot import cells, pivot
from unlearnable_bench.results.table import Table

# The budget is the note of a row; files are poisons, not variants of a method.
_BUDGET = "rho_u"
_NO_METHODS = (*CONTROLS, "file")


@dataclass(frozen=True, kw_only=True)
class Ablation(Report):
    """Clean test accuracy of the variants of a method."""

    option: str = option(
        "", "ATTACK.OPTION that varies within a table, e.g. sem.noise_steps; empty: all"
    )

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each method with several variants.

        Raises:
            UserError: no method, or not the requested one, has several variants.
        """
        return list(ablation_tables(frame, self.option))


def ablation_tables(frame: pd.DataFrame, wanted: str = "") -> Iterator[Table]:
    """Yield a table for each method, data set, learner, preset and defense with several variants.

    Each row names the value, also a default, of every option in which the variants differ.

    Args:
        frame: from `load_records`.
        wanted: `ATTACK.OPTION`: variants that differ only in this option share a table; empty:
            all variants of a method share one.

    Raises:
        UserError: no such variants.
    """
    method, dot, name = wanted.partition(".")
    if wanted and not (method and dot and name):
        raise UserError(f"option={wanted!r}: write ATTACK.OPTION, such as sem.noise_steps")
    found = cells(frame)
    used = _options(found)
    tables: list[Table] = []
    for part in settings(found):
        whole = part[part["protect"] == 1]
        for _, group in whole.groupby("defense", sort=False):
            tables += _tables(group, used, method, name)
    if not tables:
        swept = {f"{one}.{each}" for one in _methods(found) for each in _swept(found, one, used)}
        if wanted:
            raise unknown("option with several values", wanted, swept)
        raise UserError("no method has several variants; run with --set sem.noise_steps=5,10")
    yield from tables


def _tables(
    group: pd.DataFrame, used: Mapping[str, Mapping[str, Any]], method: str, name: str
) -> Iterator[Table]:
    controls = group[group["attack"].isin(CONTROLS)]
    for one in _methods(group):
        if method not in ("", one):
            continue
        swept = _swept(group, one, used)
        mine = group[group["attack"].map(_method) == one]
        alike: dict[str, list[str]] = {}
        for label in dict.fromkeys(mine["attack"]):
            rest = {each: used[label].get(each) for each in swept if each != name}
            alike.setdefault(json.dumps(rest) if name else "", []).append(label)
        for labels in alike.values():
            if len({json.dumps(used[label].get(name)) for label in labels}) < 2 and name:
                continue
            if len(labels) > 1:
                variants = mine[mine["attack"].isin(labels)]
                yield _table(pd.concat([controls, variants]), one, labels, swept, used, name)


def _table(
    part: pd.DataFrame,
    method: str,
    labels: Sequence[str],
    swept: Sequence[str],
    used: Mapping[str, Mapping[str, Any]],
    name: str,
) -> Table:
    rest = [each for each in swept if len({json.dumps(used[x].get(each)) for x in labels}) > 1]
    names = {label: _variant(method, label, rest, used[label]) for label in labels}
    names |= {label: label for label in set(part["attack"]) - names.keys()}
    ordered = sorted(labels, key=lambda label: _order(used[label], rest))
    order = {label: k for k, label in enumerate(ordered)}
    place = part["attack"].map(lambda label: order.get(label, -1))
    part = part.loc[place.sort_values(kind="stable").index]
    same = [
        f"{each}={option_text(used[labels[0]].get(each))}" for each in swept if each not in rest
    ]
    title = [f"variants of {display(method)}", *(same if name else [])]
    return pivot("ablation", part.assign(attack=part["attack"].map(names)), "rho_a", title=title)


def _variant(method: str, label: str, rest: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return a label that names each option in which the variants differ: `sem[steps=5]`."""
    inside = ",".join(f"{each}={option_text(options.get(each))}" for each in rest)
    _, hashed, version = label.partition(" #")
    return f"{method}[{inside}]" + (f" #{version}" if hashed else "")


def _order(options: Mapping[str, Any], rest: Sequence[str]) -> tuple[tuple[float, str], ...]:
    """Return the sort key of variants: numbers by value, then texts."""
    return tuple(_place(options.get(each)) for each in rest)


def _place(value: Any) -> tuple[float, str]:
    top, _, bottom = str(value).partition("/")
    try:
        return float(top) / float(bottom or 1), ""
    except (ValueError, ZeroDivisionError):
        return float("inf"), str(value)


def _method(label: str) -> str:
    return label.partition("[")[0].partition(" #")[0]


def _methods(group: pd.DataFrame) -> list[str]:
    names = dict.fromkeys(map(_method, group["attack"])) if len(group) else {}
    return [name for name in names if name not in _NO_METHODS]


def _swept(group: pd.DataFrame, method: str, used: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the options in which the variants of a method differ, in declaration order."""
    labels = [label for label in dict.fromkeys(group["attack"]) if _method(label) == method]
    names = dict.fromkeys(each for label in labels for each in used[label])
    values = {each: {json.dumps(used[x].get(each)) for x in labels} for each in names}
    return [each for each in names if each != _BUDGET and len(values[each]) > 1]


def _options(found: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the option values for each label of an attack.

    An unfinished cell has no setting, but its label has what differs from the defaults.
    """
    if found.empty:
        return {}
    known: dict[str, dict[str, Any]] = {}
    for label, setting in zip(found["attack"], found["setting"], strict=True):
        if setting and label not in known:
            attack = json.loads(setting).get("poison", {}).get("attack", {})
            known[label] = attack.get("options", {})
    plain = {label: options for label, options in known.items() if "[" not in label}
    for label in found["attack"]:
        if label not in known:
            known[label] = plain.get(_method(label), {}) | _written(label)
    return known


def _written(label: str) -> dict[str, Any]:
    """Return the options in the brackets of a label."""
    _, bracket, inside = label.partition("[")
    parts = outside_brackets(inside.rpartition("]")[0], ",") if bracket else []
    return {name: value for name, _, value in (part.partition("=") for part in parts)}
