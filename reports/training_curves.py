"""Figure: accuracy over the epochs of training, with its end and its peak."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import option
from unlearnable_bench.reports import _figure as figures
from unlearnable_bench.reports import _series as series
from unlearnable_bench.results.replicates import seed_pairs


@dataclass(frozen=True, kw_only=True)
class TrainingCurves(figures.FigureReport):
    """Clean test accuracy over epochs, one line per method, with final and peak accuracy.

    One panel per setting and rho_a. Training with a defense is shown only if nothing else is
    selected (`--defenses jpeg`).
    """

    spread: series.Spread = option("interval", series.SPREAD.replace("bars", "bands"))

    def render(self, frame: pd.DataFrame) -> Figure:
        """Return the figure.

        Raises:
            UserError: no record has accuracies per epoch, or too many settings.
        """
        found = series.cells(frame, self.names)
        data = _data(found, self.spread, self.names)
        looks = figures.looks(series.pairs_of(found))
        titles = [*dict.fromkeys(data["panel"])]
        with figures.house_style():
            made, axes = figures.panels(titles, "training-curves", self.width, 50)
            for title, ax in zip(titles, axes, strict=True):
                _draw(ax, data[data["panel"] == title], looks)
            figures.method_legend(made, data, looks, _note(data))
            return figures.done(made)


def training_curves_data(
    frame: pd.DataFrame, *, spread: series.Spread = "interval", aliases: Mapping[str, str] = {}
) -> pd.DataFrame:
    """Return the points of the figure.

    Columns: panel, method, attack, rho_u; kind: `epoch`, a point of the curve; `final`, accuracy
    after training; `peak`, the highest over epochs, which cannot be chosen without test labels;
    epoch, from 1; of a peak of several seeds their mean; mean, low, high in percent; spread; seeds;
    keys.

    Args:
        frame: from `load_records`.
        spread: statistic of the bands.
        aliases: label to name.

    Raises:
        UserError: no record has accuracies per epoch.
    """
    return _data(series.cells(frame, aliases), spread, aliases)


def _data(found: pd.DataFrame, spread: series.Spread, aliases: Mapping[str, str]) -> pd.DataFrame:
    rows = list(_points(found, spread, aliases))
    if not rows:
        raise UserError("no finished cell has accuracies over epochs; run it again to record them")
    return pd.DataFrame(rows)


def _points(
    found: pd.DataFrame, spread: series.Spread, aliases: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    found = found[found["protect"] == 1]
    if (found["defense"] == "none").any():
        found = found[found["defense"] == "none"]
    for panel, part in series.split(found, [], aliases):
        for (attack, rho_u), group in series.by_method(part):
            labels = {"panel": panel, "method": group["method"].iloc[0]}
            labels |= {"attack": attack, "rho_u": rho_u}
            for row in _curve(group, spread):
                yield labels | row


def _curve(group: pd.DataFrame, spread: series.Spread) -> Iterator[dict[str, Any]]:
    curves = [_numbers(curve) for curve in group["epoch_accuracy"]]
    group = group[[bool(len(curve)) for curve in curves]]
    curves = [curve for curve in curves if len(curve)]
    if not curves:
        return
    keys, pairs = {"keys": series.keys_of(group)}, seed_pairs(group)
    apart = bool(group["apart"].iloc[0])
    longest = max(map(len, curves))
    for epoch in range(longest):
        here = [k for k, curve in enumerate(curves) if epoch < len(curve)]
        values = pd.Series([curves[k][epoch] for k in here])
        point = series.point(values, [pairs[k] for k in here], spread, apart=apart)
        yield {"kind": "epoch", "epoch": epoch + 1.0, **point, **keys}
    final = series.mean_of(group, spread)
    yield {"kind": "final", "epoch": float(longest), **final, **keys}
    places = [float(np.nanargmax(curve)) + 1 for curve in curves]
    peaks = pd.Series([float(np.nanmax(curve)) for curve in curves])
    peak = series.point(peaks, pairs, spread, apart=apart)
    yield {"kind": "peak", "epoch": float(np.mean(places)), **peak, **keys}


def _numbers(curve: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return a curve; it is empty if a record has none or only NaN."""
    if not isinstance(curve, list | tuple | np.ndarray):
        return np.empty(0)
    numbers = np.asarray(curve, np.float64)
    return numbers if np.isfinite(numbers).any() else np.empty(0)


def _note(data: pd.DataFrame) -> str:
    peak = "peak" if set(data["seeds"]) == {1} else "mean of the seeds' peaks"
    return f"Filled: final; hollow: {peak}. {series.seeds_note(data, 'bands')}"


def _draw(ax: Axes, data: pd.DataFrame, looks: Mapping[tuple[str, str], figures.Look]) -> None:
    for pair, one in series.by_method(data):
        look = looks[pair]
        curve = one[one["kind"] == "epoch"]
        ax.plot(curve["epoch"], curve["mean"], **(look.line() | {"marker": "none"}), linewidth=1)
        if any(curve["spread"]):
            ax.fill_between(
                curve["epoch"], curve["low"], curve["high"], color=look.color, alpha=0.15, lw=0
            )
        for kind, fill, size in (("peak", "white", 6), ("final", look.color, 4)):
            mark = one[one["kind"] == kind]
            ax.plot(
                mark["epoch"],
                mark["mean"],
                **look.dots(),
                markerfacecolor=fill,
                markersize=size,
                clip_on=False,
                zorder=3,
            )
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    last = float(data["epoch"].max())
    ax.set_xlim(1 if last > 1 else 0, last if last > 1 else 2)
    ax.set_ylim(0, 100)
    ax.set_xlabel("Epoch")
    ax.set_ylabel("Clean test accuracy (%)")
