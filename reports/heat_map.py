"""Figure: methods x defenses as a heat map, one panel per rho_a."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import option
from unlearnable_bench.reports import _figure as figures
from unlearnable_bench.reports import _series as series
from unlearnable_bench.results.aggregate import CONTROLS, positions
from unlearnable_bench.results.names import display

_ROW = 6.0  # mm
_LETTER = 1.3  # mm: width on an axis
_LONGEST = 24  # letters of a name on an axis


@dataclass(frozen=True, kw_only=True)
class HeatMap(figures.FigureReport):
    """Clean test accuracy of methods (rows) under defenses (columns), one panel per rho_a."""

    digits: int = option(0, "decimal places of accuracies", minimum=0, maximum=2)

    def render(self, frame: pd.DataFrame) -> Figure:
        """Return the figure.

        Raises:
            UserError: no cell has a defense, or there are too many settings.
        """
        data = heat_map_data(frame, aliases=self.names)
        titles = [*dict.fromkeys(data["panel"])]
        grids = [_grid(data[data["panel"] == title]) for title in titles]
        margin, deep = _LETTER * _longest(grids, 0) + 6, _LETTER * _longest(grids, 1)
        lines = max(str(name).count("\n") + 1 for grid in grids for name in grid.index)
        rows = max(len(grid) for grid in grids)
        note = figures.literal(_note(data, grids), width=int(self.width / 1.5))
        height = 22 + deep + rows * max(_ROW, 3 * lines) + 3 * (note.count("\n") + 1)
        with figures.house_style():
            made, axes = figures.panels(titles, "heat-map", self.width, height, margin)
            columns = len({ax.get_position().x0 for ax in axes})
            for grid, ax in zip(grids, axes, strict=True):
                _draw(ax, grid, self.digits, self.width / columns - margin)
            colours = axes[0].collections[0]
            bar = made.colorbar(colours, ax=axes, location="bottom", aspect=40, shrink=0.8)
            bar.set_label("Clean test accuracy (%)")
            bar.outline.set_visible(False)
            made.supxlabel(note, x=0.02, ha="left", fontsize=7)
            return figures.done(made)


def heat_map_data(frame: pd.DataFrame, *, aliases: Mapping[str, str] = {}) -> pd.DataFrame:
    """Return the cells of the heat maps, with methods and defenses in the order of the frame.

    Columns: panel, method, attack, rho_u, rho_a, defense (the label), column (its name as
    printed); mean in percent (low, high and spread are those of a mean without a bar); seeds; keys.

    Args:
        frame: from `load_records`.
        aliases: label to name.

    Raises:
        UserError: no cell has a defense.
    """
    rows = [row for row in _fields(frame, aliases) if row["seeds"]]
    if not rows:
        raise UserError("no cell has a defense; run `ubench run` with --defenses none,jpeg,cutmix")
    return pd.DataFrame(rows)


def _fields(frame: pd.DataFrame, aliases: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    found = series.cells(frame, aliases)
    whole = series.slim(found[found["protect"] == 1], ["test_accuracy"])
    for panel, part in series.split(whole, ["defense"], aliases):
        defended = set(part[part["defense"] != "none"]["attack"])
        if not defended:
            continue
        shown = part[part["attack"].isin(defended | {*CONTROLS})]
        by = ("attack", "rho_u", "rho_a", "defense")
        for labels, places in positions(shown, by):
            group, names = shown.iloc[places], dict(zip(by, labels, strict=True))
            point = series.mean_of(group, "none")
            yield {
                "panel": panel,
                "method": group["method"].iloc[0],
                **names,
                "column": display(str(names["defense"]), aliases),
                **point,
                "keys": series.keys_of(group),
            }


def _note(data: pd.DataFrame, grids: Sequence[pd.DataFrame]) -> str:
    """Return the note on seeds, and on the fields without a number."""
    empty = any(grid.isna().any(axis=None) for grid in grids)
    return series.seeds_note(data) + (" Hatched: not run or not finished." if empty else "")


def _grid(data: pd.DataFrame) -> pd.DataFrame:
    """Return means: one row per method, controls first; one column per defense, none first."""
    pairs = sorted(dict.fromkeys(series.pairs_of(data)), key=lambda pair: pair[0] not in CONTROLS)
    columns = sorted(dict.fromkeys(data["defense"]), key=lambda name: name != "none")
    values = np.full((len(pairs), len(columns)), np.nan)
    fields = zip(series.pairs_of(data), data["defense"], data["mean"], strict=True)
    for pair, defense, mean in fields:
        values[pairs.index(pair), columns.index(defense)] = mean
    methods = data.drop_duplicates(["attack", "rho_u"]).set_index(["attack", "rho_u"])["method"]
    shown = data.drop_duplicates("defense").set_index("defense")["column"]
    return pd.DataFrame(
        values,
        [_literal(methods[pair]) for pair in pairs],
        [_literal(shown[name]) for name in columns],
    )


def _literal(name: str) -> str:
    return figures.literal(name, width=_LONGEST, lines=figures.NAME_LINES)


def _longest(grids: Sequence[pd.DataFrame], axis: int) -> int:
    """Return the number of letters of the longest line of the names on an axis."""
    return max(
        len(line) for grid in grids for name in grid.axes[axis] for line in str(name).split("\n")
    )


def _draw(ax: Axes, grid: pd.DataFrame, digits: int, width_mm: float) -> None:
    import seaborn as sns  # noqa: PLC0415 - slow to import, and only this figure needs it

    room = width_mm / len(grid.columns)  # mm a field
    letters = 3 + digits + bool(digits)
    size = min(7.0, room / (0.21 * letters))
    sns.heatmap(
        grid,
        ax=ax,
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=size >= 4,
        fmt=f".{digits}f",
        annot_kws={"size": size},
        cbar=False,
        linewidths=0.5,
        xticklabels=False,
        yticklabels=False,
    )
    for text in ax.texts:  # each is within its field, so the layout can ignore it
        text.set_in_layout(False)
    # With its own labels, seaborn would draw the figure once per label to measure them.
    ax.set_xticks(np.arange(len(grid.columns)) + 0.5, [*grid.columns])
    ax.set_yticks(np.arange(len(grid)) + 0.5, [*grid.index], va="center")
    ax.patch.set(facecolor="white", hatch="/////", edgecolor="0.85")  # for cells that were not run
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
