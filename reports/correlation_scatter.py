"""The robustness-protection correlation as a figure (the view of the SEM paper's Figure 3)."""

from dataclasses import dataclass

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlearnable_bench.options import option
from unlearnable_bench.reports._figure import (
    FigureReport,
    Look,
    done,
    house_style,
    key,
    legend,
    literal,
    look,
    panels,
)
from unlearnable_bench.results.correlation import Correlation
from unlearnable_bench.results.intervals import NotComputable
from unlearnable_bench.results.variants import (
    QUANTITIES,
    Quantity,
    correlations,
    seeds_note,
    variants,
)

_PANEL = 52.0  # mm: height of a panel
_NOTE = (
    "A number is the radius of the surrogate's adversarial training, in 1/255. Line and band: "
    "least squares with a 95 % bootstrap interval."
)
_ENOUGH = 4  # points; a band for fewer is meaningless


@dataclass(frozen=True, kw_only=True)
class CorrelationScatter(FigureReport):
    """Protection against robustness, delusiveness and stability, one panel each, with r."""

    width: float = option(178.0, "width of the figure in mm, 40 to 400", minimum=40, maximum=400)

    def render(self, frame: pd.DataFrame) -> Figure:
        """Return one scatter panel per quantity."""
        points = correlation_scatter_data(frame)
        found = correlations(points)
        points = points.assign(group=_groups(points))
        groups = {group: look(k) for k, group in enumerate(dict.fromkeys(points["group"]))}
        with house_style():
            titles = [quantity.name for quantity in QUANTITIES]
            made, axes = panels(titles, "correlation-scatter", self.width, _PANEL)
            for panel, quantity in zip(axes, QUANTITIES, strict=True):
                _draw(panel, points, quantity, found[quantity.column], groups)
            entries = [(f"views: {name}", key(of, line=False)) for name, of in groups.items()]
            legend(made, entries, f"{seeds_note(points)} {_NOTE}")
            return done(made)


def correlation_scatter_data(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the points of `variants`, with the keys of each point as one text."""
    points = variants(frame)
    return points.assign(keys=[" ".join(keys) for keys in points["keys"]])


def _draw(
    panel: Axes,
    points: pd.DataFrame,
    quantity: Quantity,
    found: Correlation,
    groups: dict[str, Look],
) -> None:
    known = points[points[quantity.column].notna() & points["protection"].notna()]
    varied = min(len(set(known[name])) for name in (quantity.column, "protection")) > 1
    if len(known) >= _ENOUGH and varied:
        sns.regplot(
            known, x=quantity.column, y="protection", ax=panel, scatter=False, seed=0,
            color="0.45", line_kws={"linewidth": 1.0},
        )  # fmt: skip
    for name, group in known.groupby("group", sort=False):
        panel.plot(group[quantity.column], group["protection"], **groups[str(name)].dots())
    for point in known.to_dict("records"):
        panel.annotate(
            point["generator"].removesuffix("/255"),
            (point[quantity.column], point["protection"]),
            (3, 2),
            textcoords="offset points",
            fontsize=6,
        )
    panel.set_xlabel(literal(quantity.unit))
    panel.set_ylabel("protection (points)")
    panel.set_title(f"{literal(quantity.name)}\n{_in_words(found)}")
    # The band of a few points can be many times as high as the points.
    low, high = known["protection"].min(), known["protection"].max()
    margin = max(0.15 * (high - low), 1.0)
    if len(known):
        panel.set_ylim(low - margin, high + margin)


def _in_words(found: Correlation) -> str:
    """Return r, its interval and the number of points."""
    r = found.pearson
    if isinstance(r, NotComputable):
        return f"no r (n = {found.n})"
    text = f"r = {r:+.2f}"
    if not isinstance(found.fisher, NotComputable):
        text += f" [{found.fisher.low:+.2f}, {found.fisher.high:+.2f}]"
    return f"{text}, n = {found.n}"


def _groups(points: pd.DataFrame) -> "pd.Series[str]":
    """Return the legend name of each variant: its perturbation, and its updates if they vary."""
    if len(set(points["steps"])) == 1:
        return points["noise"]
    return points["noise"] + ", " + points["steps"].astype(str) + " updates"
