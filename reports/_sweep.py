"""Curves over a swept option: the options that vary, and cells that differ only in them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.radius import Radius
from unlearnable_bench.reports import _figure as figures
from unlearnable_bench.reports import _series as series
from unlearnable_bench.results.aggregate import positions
from unlearnable_bench.results.names import display, option_text, outside_brackets

Kind = Literal["attack", "defense"]
_A: Mapping[Kind, str] = {"attack": "an attack", "defense": "a defense"}
_LOGARITHMIC = 30  # from this ratio of the largest to the smallest value


@dataclass(frozen=True)
class _Sweep:
    """One option of a plugin and the cells that have it.

    Attributes:
        owner: name of the plugin.
        option: name of the option.
        given: setting to the value of the option, as text and as number.
        rest: setting to the setting without the option.
    """

    owner: str
    option: str
    given: Mapping[str, tuple[str, float]]
    rest: Mapping[str, str]

    @property
    def name(self) -> str:
        """`sem.noise_steps`."""
        return f"{self.owner}.{self.option}"


def number(value: Any) -> float | None:
    """Return an option's value as a number, radii in units of 1/255; None if not numeric."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    try:
        return 255 * float(Radius(value)) if isinstance(value, str) else None
    except UserError:
        return None


def sweep_data(
    frame: pd.DataFrame,
    kind: Kind,
    wanted: str = "",
    *,
    spread: series.Spread = "interval",
    aliases: Mapping[str, str] = {},
) -> pd.DataFrame:
    """Return accuracy against the values of an option, lines one after another.

    The cells of a line differ only in the option and the seed.

    Columns: panel, line, attack, rho_u, defense, rho_a; option, `sem.noise_steps`; text, its value
    as written; value, the number, radii in units of 1/255; mean, low, high in percent; spread;
    seeds; keys.

    Args:
        frame: from `load_records`.
        kind: `attack` or `defense`, the plugin with the option.
        wanted: `sem.noise_steps`; empty: every numeric option with two or more values in
            otherwise equal cells.
        spread: statistic of the error bars.
        aliases: label to name.

    Raises:
        UserError: an unknown option, or no option that varies.
    """
    found = series.cells(frame, aliases)
    found = found[found["protect"] == 1]
    found = series.slim(found, ["test_accuracy", "setting"])
    found = found[np.isfinite(found["test_accuracy"].astype(float))]
    sweeps = _sweeps([*dict.fromkeys(found["setting"])], kind)
    example = "sem.noise_steps=1,5,10" if kind == "attack" else "jpeg.quality=90,50,10"
    if wanted and wanted not in {sweep.name for sweep in sweeps}:
        raise unknown(
            f"numeric option of {_A[kind]} in these records", wanted, {s.name for s in sweeps}
        )
    rows = [
        row
        for sweep in sweeps
        if wanted in ("", sweep.name)
        for row in _points(found, sweep, kind, spread, aliases)
    ]
    if not rows:
        what = wanted or f"no numeric option of {_A[kind]}"
        verb = "has only one value" if wanted else "has two values"
        raise UserError(f"{what} {verb} in otherwise equal cells; run with --set {example}")
    return pd.DataFrame(rows)


def _sweeps(settings: Iterable[str], kind: Kind) -> list[_Sweep]:
    """Return every numeric option in the settings."""
    values: dict[tuple[str, str], dict[str, tuple[str, float]]] = {}
    rest: dict[tuple[str, str], dict[str, str]] = {}
    for text in settings:
        setting = json.loads(text)
        setting.pop("labels", None)
        setting.get("poison", {}).pop("seed", None)
        for part in _parts(setting, kind):
            options = part["options"]
            for option in list(options):
                value = number(options[option])
                if value is None:
                    continue
                name = part["name"], option
                given = options.pop(option)
                values.setdefault(name, {})[text] = option_text(given), value
                rest.setdefault(name, {})[text] = json.dumps(setting, sort_keys=True)
                options[option] = given
    return [_Sweep(*name, values[name], rest[name]) for name in values]


def _parts(setting: dict[str, Any], kind: Kind) -> Iterator[dict[str, Any]]:
    """Yield the identity of the plugin, or of each of several combined by `+`."""
    whole = setting.get("poison", {}) if kind == "attack" else setting
    identity = whole.get(kind)
    if not isinstance(identity, dict) or not isinstance(identity.get("options"), dict):
        return
    parts = identity["options"].get("parts", identity.get("parts"))
    for part in parts if isinstance(parts, list) else [identity]:
        if isinstance(part.get("options"), dict):
            yield part


def _points(
    found: pd.DataFrame,
    sweep: _Sweep,
    kind: Kind,
    spread: series.Spread,
    aliases: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    mine = found[found["setting"].isin(sweep.given.keys())]
    mine = mine.assign(
        text=[sweep.given[text][0] for text in mine["setting"]],
        value=[sweep.given[text][1] for text in mine["setting"]],
        rest=[sweep.rest[text] for text in mine["setting"]],
    )
    # The label of a line must not name one of the values on it.
    short = [without(label, sweep.owner, sweep.option) for label in mine[kind]]
    varies = mine.groupby("rest")["value"].transform("nunique") > 1
    mine = mine.assign(**{f"short_{kind}": short})[varies]
    axis = ["defense"] if kind == "defense" else ["rho_a"]
    for title, part in series.split(mine, axis, aliases):
        panel = f"{title}: {sweep.name}"
        for _, line in part.groupby("rest", sort=False):
            first = line.iloc[0]
            if kind == "attack":
                name = f"{display(first['short_attack'], aliases)}, ρₐ = {first['rho_a']}"
            else:
                other = first["short_defense"]
                plain = other == sweep.owner
                shown = "" if plain else f", {display(other, aliases)}"
                name = f"{first['method']}{shown}"
            places = {value: one for (value,), one in positions(line, ["value"])}
            for value in sorted(places):
                group = line.iloc[places[value]]
                labels = {"panel": panel, "line": name, "option": sweep.name}
                labels |= {n: first[n] for n in ("attack", "rho_u", "defense", "rho_a")}
                labels |= {"text": group["text"].iloc[0], "value": value}
                point = series.mean_of(group, spread)
                yield labels | point | {"keys": series.keys_of(group)}


def without(label: str, owner: str, option: str) -> str:
    """Return a label without one option of one of its parts: `sem[a=1,b=2]`, `a`: `sem[b=2]`."""
    parts = []
    for part in outside_brackets(label, "+"):
        name, bracket, inside = part.partition("[")
        if bracket and inside.endswith("]") and name == owner:
            others = outside_brackets(inside[:-1], ",")
            others = [one for one in others if one.partition("=")[0] != option]
            part = f"{name}[{','.join(others)}]" if others else name  # noqa: PLW2901
        parts.append(part)
    return "+".join(parts)


def draw_sweeps(data: pd.DataFrame, report: str, width_mm: float) -> Figure:
    """Return the figure of `sweep_data`: one panel per setting and option."""
    titles = [*dict.fromkeys(data["panel"])]
    names = [*dict.fromkeys(data["line"])]
    looks = {name: figures.look(k) for k, name in enumerate(names)}
    with figures.house_style():
        made, axes = figures.panels(
            [title.rpartition(": ")[0] for title in titles], report, width_mm, 50
        )
        for title, ax in zip(titles, axes, strict=True):
            _draw(ax, data[data["panel"] == title], looks)
        entries = [(name, figures.key(looks[name])) for name in names]
        figures.legend(made, entries, series.seeds_note(data))
        return figures.done(made)


def _draw(ax: Axes, data: pd.DataFrame, looks: Mapping[str, figures.Look]) -> None:
    for name, line in data.groupby("line", sort=False):
        ax.errorbar(
            line["value"],
            line["mean"],
            yerr=series.bars(line) if any(line["spread"]) else None,
            capsize=2,
            elinewidth=0.8,
            **looks[str(name)].line(),
        )
    low, high = float(data["value"].min()), float(data["value"].max())
    if low > 0 and high / low >= _LOGARITHMIC:
        figures.log_axis(ax, low, high)
    shown = figures.ticks_at(ax, dict(zip(data["value"], data["text"], strict=True)))
    radii = not shown and any("/" in text for text in data["text"])
    ax.set_xlabel(figures.literal(data["option"].iloc[0] + (" (1/255)" if radii else ""), width=60))
    ax.set_ylabel("Clean test accuracy (%)")
    ax.set_ylim(0, 100)
