"""From cells to the points of a figure: settings, names, means over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.aggregate import (
    CONTROLS,
    finished,
    order_of,
    positions,
    told_apart,
)
from unlearnable_bench.results.intervals import Interval, summarise
from unlearnable_bench.results.names import display, radius_note

Spread = Literal["interval", "std", "none"]
SPREAD = "bars over seeds: 95 % interval (of two seeds their range), std or none"
SETTING = ("dataset", "learner", "preset")
_PERCENT = (0.0, 100.0)


def cells(frame: pd.DataFrame, aliases: Mapping[str, str] = {}) -> pd.DataFrame:
    """Return the finished cells with one meaning a label, and their method's name as printed.

    Args:
        frame: from `load_records`.
        aliases: label to name.

    Raises:
        UserError: no cell is finished.
    """
    found = told_apart(finished(frame))
    if found.empty:
        raise UserError("there is no finished cell to report; run `ubench run` first")
    several = found.groupby("attack")["rho_u"].nunique().to_dict()
    names: dict[tuple[str, str], str] = {}
    pairs = list(zip(found["attack"], found["rho_u"], strict=True))
    for attack, rho_u in dict.fromkeys(pairs):
        note = radius_note(rho_u, always=several[attack] > 1)
        shown = display(attack, aliases)
        names[attack, rho_u] = f"{shown} ({note})" if note else shown
    return found.assign(method=[names[pair] for pair in pairs])


def slim(found: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return cells with their labels and keys and some columns alone.

    To take rows out of a frame costs by the column, and a figure has thousands of points.

    Args:
        found: from `cells`.
        columns: names of those wanted beside labels and keys.
    """
    wanted = {"attack", "rho_u", "rho_a", "defense", "protect", "method", "key", *SETTING, *columns}
    return found[[name for name in found if name in wanted]]


def pairs_of(found: pd.DataFrame) -> list[tuple[str, str]]:
    """Return attack and rho_u of each row, which name a method."""
    return list(zip(found["attack"], found["rho_u"], strict=True))


def by_method(found: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yield attack and rho_u of each method and its rows: controls first, else as in the frame."""
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
        axis: columns that vary within a setting, beside method and seed.
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
    values: "pd.Series[Any]", spread: Spread = "interval", bounds: tuple[float, float] = _PERCENT
) -> dict[str, Any]:
    """Return mean, bar and number of seeds of one point; seeds of 0 if there is no number.

    Args:
        values: one a seed; those that are not finite do not count.
        spread: what the bar shows.
        bounds: range of the unit: a bar never leaves it.

    Returns:
        mean; low and high, the ends of the bar, equal to the mean without a bar; spread, what
        the bar is, or an empty text; seeds.
    """
    numbers = values.astype(float)
    summary = summarise(numbers, bounds=bounds)
    if not isinstance(summary.mean, float):
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "spread": "",
                "seeds": 0}  # fmt: skip
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
    return {"mean": mean, "low": low, "high": high, "spread": kind, "seeds": summary.n}


def keys_of(group: pd.DataFrame) -> str:
    """Return the keys of the records that a point comes from, with blanks between them."""
    return " ".join(map(str, group["key"])) if "key" in group else ""


def seeds_note(data: pd.DataFrame, what: str = "bars") -> str:
    """Return how many seeds a figure shows, and what its bars are."""
    counts = sorted(set(data["seeds"]))
    if counts == [1]:
        return "One seed."
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    kinds = [kind for kind in dict.fromkeys(data["spread"]) if kind]
    return f"Mean over {span} seeds" + (f"; {what}: {' or '.join(kinds)}." if kinds else ".")


def bars(data: pd.DataFrame) -> list[list[float]]:
    """Return the lengths of error bars below and above the means, as matplotlib takes them."""
    below = (data["mean"] - data["low"]).clip(lower=0)
    above = (data["high"] - data["mean"]).clip(lower=0)
    return [below.tolist(), above.tolist()]
