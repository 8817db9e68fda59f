"""Points of figures: settings, names and means over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.aggregate import (
    CONTROLS,
    distinct_labels,
    order_of,
    positions,
)
from unlearnable_bench.results.intervals import Interval, summarise
from unlearnable_bench.results.names import display, radius_note
from unlearnable_bench.results.replicates import Design, Pair, independent, seed_pairs, seeds_text

Spread = Literal["interval", "std", "none"]
SPREAD = "error bars over seeds: 95 % interval (range for two seeds), std or none"
SETTING = ("dataset", "learner", "preset")
_PERCENT = (0.0, 100.0)


def cells(frame: pd.DataFrame, aliases: Mapping[str, str] = {}) -> pd.DataFrame:
    """Return the finished cells with unambiguous labels, and the printed names of their methods.

    The column `apart` says whether the method's noise has seeds of its own in this setting.

    Args:
        frame: from `load_records`.
        aliases: label to name.

    Raises:
        UserError: no cell is finished.
    """
    found = distinct_labels(frame)
    if found.empty:
        raise UserError("no finished cell to report; run `ubench run` first")
    several = found.groupby("attack")["rho_u"].nunique().to_dict()
    names: dict[tuple[str, str], str] = {}
    pairs = list(zip(found["attack"], found["rho_u"], strict=True))
    for attack, rho_u in dict.fromkeys(pairs):
        note = radius_note(attack, rho_u, always=several[attack] > 1)
        shown = display(attack, aliases)
        names[attack, rho_u] = f"{shown} ({note})" if note else shown
    owners = list(zip(*(found[name] for name in (*SETTING, "attack")), strict=True))
    seeds = zip(owners, seed_pairs(found), strict=True)
    apart = {owner for owner, (noise, seed) in seeds if noise != seed}
    return found.assign(
        method=[names[pair] for pair in pairs], apart=[owner in apart for owner in owners]
    )


def slim(found: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return cells with only their labels, keys and some columns.

    Selecting rows costs time for each column, and a figure can have thousands of points.

    Args:
        found: from `cells`.
        columns: names of further columns.
    """
    wanted = {"attack", "rho_u", "rho_a", "defense", "protect", "method", "key", *SETTING, *columns}
    wanted |= {"seed", "noise_seed", "apart"}
    return found[[name for name in found if name in wanted]]


def pairs_of(found: pd.DataFrame) -> list[tuple[str, str]]:
    """Return attack and rho_u of each row, which identify a method."""
    return list(zip(found["attack"], found["rho_u"], strict=True))


def by_method(found: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yield attack and rho_u of each method and its rows: controls first, then as in the frame."""
    methods = dict(positions(found, ["attack", "rho_u"]))
    for pair in sorted(methods, key=lambda pair: pair[0] not in CONTROLS):
        attack, rho_u = pair
        yield (attack, rho_u), found.iloc[methods[pair]]


def split(
    found: pd.DataFrame,
    axis: Sequence[str],
    aliases: Mapping[str, str] = {},
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the title and the cells of each setting, in the order of the frame.

    Args:
        found: from `cells`.
        axis: columns that vary within a setting, in addition to method and seed.
        aliases: label to name.
    """
    wanted = ("dataset", "learner", "preset", "defense", "rho_a", "protect")
    columns = [name for name in wanted if name not in axis]
    if found.empty:
        return
    for _, part in found.groupby(columns, sort=False):
        yield _title(part.iloc[0], columns, aliases), part


def _title(first: "pd.Series[Any]", columns: Sequence[str], aliases: Mapping[str, str]) -> str:
    parts = [display(first[name], aliases) for name in ("dataset", "learner") if name in columns]
    if "preset" in columns:
        parts.append(f"{display(first['preset'])} preset")
    if "defense" in columns and first["defense"] != "none":
        parts.append(display(first["defense"], aliases))
    if "rho_a" in columns:
        parts.append(f"ρₐ = {first['rho_a']}")
    if "protect" in columns and first["protect"] != 1:
        parts.append(f"{100 * first['protect']:g} % protected")
    return ", ".join(parts)


def levels(radius: str) -> float:
    """Return a radius in units of 1/255, the step of an 8-bit pixel."""
    return 255 * order_of(radius)


def point(
    values: "pd.Series[Any]",
    pairs: Sequence[Pair],
    spread: Spread = "interval",
    bounds: tuple[float, float] = _PERCENT,
    *,
    apart: bool,
) -> dict[str, Any]:
    """Return mean, error bar and number of seeds of one point; 0 seeds if there is no number.

    Args:
        values: one per cell; values that are not finite are left out.
        pairs: seeds of noise and training of each cell.
        spread: statistic of the error bar.
        bounds: range of the unit, to which bars are clipped.
        apart: whether the noise has seeds of its own.

    Returns:
        mean; low and high, the ends of the bar, equal to the mean without a bar; spread, the
        statistic of the bar, or an empty text; seeds; design, a `Design` if the noise has seeds of
        its own, otherwise None.
    """
    numbers = independent(pairs, values.astype(float).to_numpy())
    summary = summarise(numbers, bounds=bounds)
    if not isinstance(summary.mean, float):
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "spread": "",
                "seeds": 0, "design": None}  # fmt: skip
    mean = summary.mean
    low = high = mean
    kind = ""
    if spread == "std" and isinstance(summary.std, float):
        low, high, kind = mean - summary.std, mean + summary.std, "standard deviation"
    elif spread == "interval" and isinstance(summary.shown, Interval):
        low, high, kind = summary.shown.low, summary.shown.high, "95 % interval"
    elif spread == "interval" and summary.n > 1:
        low, high, kind = float(numbers.min()), float(numbers.max()), "range of two seeds"
    low, high = max(low, min(bounds[0], mean)), min(high, max(bounds[1], mean))
    known = np.isfinite(values.astype(float).to_numpy())
    design = Design.of([pair for pair, one in zip(pairs, known, strict=True) if one], apart=apart)
    found = {"mean": mean, "low": low, "high": high, "spread": kind, "seeds": summary.n}
    return found | {"design": design}


def mean_of(group: pd.DataFrame, spread: Spread) -> dict[str, Any]:
    """Return the point of the test accuracy of some cells of one method.

    Args:
        group: rows from `cells`.
        spread: statistic of the error bar.
    """
    apart = bool(group["apart"].iloc[0])
    return point(group["test_accuracy"], seed_pairs(group), spread, apart=apart)


def keys_of(group: pd.DataFrame) -> str:
    """Return the keys of the records of a point, separated by spaces."""
    return " ".join(map(str, group["key"])) if "key" in group else ""


def seeds_note(data: pd.DataFrame, what: str = "bars") -> str:
    """Return a note on the number of seeds of a figure and on its bars, in the words of a table."""
    if set(data["seeds"]) == {1}:
        return "One seed."
    names = data["method" if "method" in data else "line"]
    known = list(zip(names, data["seeds"], data["design"], strict=True))
    span = seeds_text(
        (design for _, _, design in known if isinstance(design, Design)),
        ((name, seeds) for name, seeds, design in known if not isinstance(design, Design)),
    )
    kinds = [kind for kind in dict.fromkeys(data["spread"]) if kind]
    return f"Mean over {span}" + (f"; {what}: {' or '.join(kinds)}." if kinds else ".")


def bars(data: pd.DataFrame) -> list[list[float]]:
    """Return the lengths of error bars below and above the means, as matplotlib takes them."""
    below = (data["mean"] - data["low"]).clip(lower=0)
    above = (data["high"] - data["mean"]).clip(lower=0)
    return [below.tolist(), above.tolist()]
