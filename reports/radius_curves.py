"""Figure: accuracy against the radius of adversarial training, one line a method."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import option
from unlearnable_bench.reports import _figure as figures
from unlearnable_bench.reports import _series as series
from unlearnable_bench.results.aggregate import positions


@dataclass(frozen=True, kw_only=True)
class RadiusCurves(figures.FigureReport):
    """Clean test accuracy against rho_a, one line per method, one panel per setting."""

    spread: series.Spread = option("interval", series.SPREAD)

    def render(self, frame: pd.DataFrame) -> Figure:
        """Return the figure.

        Raises:
            UserError: no setting has two radii, or there are too many settings.
        """
        found = series.cells(frame, self.names)
        data = _data(found, self.spread, self.names)
        looks = figures.looks(series.pairs_of(found))
        titles = [*dict.fromkeys(data["panel"])]
        with figures.house_style():
            made, axes = figures.panels(titles, "radius-curves", self.width, 50)
            for title, ax in zip(titles, axes, strict=True):
                _draw(ax, data[data["panel"] == title], looks)
            figures.method_legend(made, data, looks, series.seeds_note(data))
            return figures.done(made)


def radius_curves_data(
    frame: pd.DataFrame, *, spread: series.Spread = "interval", aliases: Mapping[str, str] = {}
) -> pd.DataFrame:
    """Return the points of the figure, lines one after another, controls first.

    Columns: panel, method, attack, rho_u, rho_a; radius, rho_a in units of 1/255; mean, low, high
    in percent; spread, the statistic of low and high; seeds; keys of the records.

    Args:
        frame: from `load_records`.
        spread: statistic of the error bars.
        aliases: label to name.

    Raises:
        UserError: no setting has two radii.
    """
    return _data(series.cells(frame, aliases), spread, aliases)


def _data(found: pd.DataFrame, spread: series.Spread, aliases: Mapping[str, str]) -> pd.DataFrame:
    rows = [row for row in _points(found, spread, aliases) if row["seeds"]]
    data = pd.DataFrame(rows)
    if not data.empty:
        several = data.groupby("panel")["radius"].transform("nunique") > 1
        data = data[several].reset_index(drop=True)
    if data.empty:
        radii = ", ".join(dict.fromkeys(found["rho_a"]))
        raise UserError(
            f"no setting has cells at two rho_a (found: {radii or 'no finished cell'}); run "
            "`ubench run` with --rho-a 0,4/255"
        )
    return data


def _points(
    found: pd.DataFrame, spread: series.Spread, aliases: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    whole = series.slim(found[found["protect"] == 1], ["test_accuracy"])
    for panel, part in series.split(whole, ["rho_a"], aliases):
        for (attack, rho_u), line in series.by_method(part):
            labels = {"panel": panel, "method": line["method"].iloc[0]}
            labels |= {"attack": attack, "rho_u": rho_u}
            places = {rho_a: one for (rho_a,), one in positions(line, ["rho_a"])}
            for rho_a in sorted(places, key=series.levels):
                group = line.iloc[places[rho_a]]
                place = {"rho_a": rho_a, "radius": series.levels(rho_a)}
                point = series.mean_of(group, spread)
                yield labels | place | point | {"keys": series.keys_of(group)}


def _draw(ax: Axes, data: pd.DataFrame, looks: Mapping[tuple[str, str], figures.Look]) -> None:
    for pair, line in series.by_method(data):
        ax.errorbar(
            line["radius"],
            line["mean"],
            yerr=series.bars(line) if any(line["spread"]) else None,
            capsize=2,
            elinewidth=0.8,
            **looks[pair].line(),
        )
    shown = figures.ticks_at(ax, dict(zip(data["radius"], data["rho_a"], strict=True)))
    unit = "" if shown else " (1/255)"
    ax.set_xlabel(f"Radius of adversarial training ρₐ{unit}")
    ax.set_ylabel("Clean test accuracy (%)")
    ax.set_ylim(0, 100)
