"""Figure: accuracy against a swept option of a defense."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from unlearnable_bench.options import option
from unlearnable_bench.reports import _series as series
from unlearnable_bench.reports._figure import FigureReport
from unlearnable_bench.reports._sweep import draw_sweeps, sweep_data


@dataclass(frozen=True, kw_only=True)
class DefenseCurves(FigureReport):
    """Clean test accuracy against a numeric option of a defense, one line per method."""

    spread: series.Spread = option("interval", series.SPREAD)
    # The last field, because it shadows the function `option`.
    option: str = option("", "DEFENSE.OPTION on the x axis, e.g. jpeg.quality; empty: all")

    def render(self, frame: pd.DataFrame) -> Figure:
        """Return the figure.

        Raises:
            UserError: no numeric option of a defense varies, or there are too many panels.
        """
        data = defense_curves_data(frame, self.option, spread=self.spread, aliases=self.names)
        return draw_sweeps(data, "defense-curves", self.width)


def defense_curves_data(
    frame: pd.DataFrame,
    name: str = "",
    *,
    spread: series.Spread = "interval",
    aliases: Mapping[str, str] = {},
) -> pd.DataFrame:
    """Return the points of the figure, with columns and arguments of `sweep_data`."""
    return sweep_data(frame, "defense", name, spread=spread, aliases=aliases)
