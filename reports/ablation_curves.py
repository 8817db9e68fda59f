"""Figure: accuracy against a swept option of an attack."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from unlearnable_bench.options import option
from unlearnable_bench.reports import _series as series
from unlearnable_bench.reports._figure import FigureReport
from unlearnable_bench.reports._sweep import draw_sweeps, sweep_data


@dataclass(frozen=True, kw_only=True)
class AblationCurves(FigureReport):
    """Clean test accuracy against a numeric option of an attack, one line per rho_a."""

    spread: series.Spread = option("interval", series.SPREAD)
    # The last field, because it shadows the function `option`.
    option: str = option(
        "", "ATTACK.OPTION on the x axis, e.g. sem.noise_steps; empty: all that vary"
    )

    def render(self, frame: pd.DataFrame) -> Figure:
        """Return the figure.

        Raises:
            UserError: no numeric option of an attack varies, or there are too many panels.
        """
        data = ablation_curves_data(frame, self.option, spread=self.spread, aliases=self.names)
        return draw_sweeps(data, "ablation-curves", self.width)


def ablation_curves_data(
    frame: pd.DataFrame,
    name: str = "",
    *,
    spread: series.Spread = "interval",
    aliases: Mapping[str, str] = {},
) -> pd.DataFrame:
    """Return the points of the figure, with columns and arguments of `sweep_data`."""
    return sweep_data(frame, "attack", name, spread=spread, aliases=aliases)
