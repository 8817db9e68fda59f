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
    """Clean test accuracy against a numeric option of a defense, one line a method."""

    spread: series.Spread = option("interval", series.SPREAD)
    # Last: it hides the function of its name from the lines below.
    option: str = option("", "defense and option, jpeg.quality; empty: every option that varies")

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
    """Return the points of the figure; columns and arguments as those of `sweep_data`."""
    return sweep_data(frame, "defense", name, spread=spread, aliases=aliases)
