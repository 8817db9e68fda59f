"""Figure: generation time against protection, the view of the SEM paper's Figure 1."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import option
from unlearnable_bench.radius import Radius
from unlearnable_bench.reports import _figure as figures
from unlearnable_bench.reports import _series as series
from unlearnable_bench.results.aggregate import CONTROLS
from unlearnable_bench.results.replicates import seed_pairs

# For a poison from a file, the time of reading is no generation time.
_READ = "file"


@dataclass(frozen=True, kw_only=True)
class TimeProtection(figures.FigureReport):
    """Generation time against protection under adversarial training, one point per method."""

    rho_a: Radius | None = option(
        None, "radius of adversarial training; none: the largest of each setting"
    )
    spread: series.Spread = option("interval", series.SPREAD)

    def render(self, frame: pd.DataFrame) -> Figure:
        """Return the figure.

        Raises:
            UserError: no setting has a method and clean cells at the radius.
        """
        found = series.cells(frame, self.names)
        data = _data(found, self.rho_a, self.spread, self.names)
        looks = figures.looks(series.pairs_of(found))
        titles = [*dict.fromkeys(data["panel"])]
        with figures.house_style():
            made, axes = figures.panels(titles, "time-protection", self.width, 50)
            for title, ax in zip(titles, axes, strict=True):
                _draw(ax, data[data["panel"] == title], looks)
            figures.method_legend(made, data, looks, _note(data), line=False)
            return figures.done(made)


def time_protection_data(
    frame: pd.DataFrame,
    *,
    rho_a: Radius | None = None,
    spread: series.Spread = "interval",
    aliases: Mapping[str, str] = {},
) -> pd.DataFrame:
    """Return the points of the figure.

    Protection is clean accuracy minus accuracy, in percentage points: with common seeds, the mean
    of the differences to the clean learner of the same seed; otherwise the difference of the means,
    without a bar.

    Columns: panel, method, attack, rho_u, rho_a; generation, mean seconds without compilation;
    clean and accuracy in percent, means over the seeds used; mean, low, high of the protection;
    spread; seeds; device, of the generation; resumed, whether any generation was interrupted; keys.

    Args:
        frame: from `load_records`.
        rho_a: radius of adversarial training; None: the largest above 0 of each setting.
        spread: statistic of the error bars.
        aliases: label to name.

    Raises:
        UserError: no setting has a method and clean cells at the radius.
    """
    return _data(series.cells(frame, aliases), rho_a, spread, aliases)


def _data(
    found: pd.DataFrame, rho_a: Radius | None, spread: series.Spread, aliases: Mapping[str, str]
) -> pd.DataFrame:
    rows = [row for row in _points(found, rho_a, spread, aliases) if row["seeds"]]
    if not rows:
        wanted = f"rho_a {rho_a}" if rho_a else "a rho_a above 0"
        raise UserError(
            f"no setting has both clean and another method, with its generation time, at {wanted}; "
            "run `ubench run` with --methods clean,sem --rho-a 4/255"
        )
    return pd.DataFrame(rows)


def _points(
    found: pd.DataFrame, rho_a: Radius | None, spread: series.Spread, aliases: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    found = found[(found["protect"] == 1) & (found["defense"] == "none")]
    for _, setting in series.split(found, ["rho_a"], aliases):
        with_clean = setting[setting["attack"] == "clean"]["rho_a"]
        radii = {text: series.levels(text) for text in with_clean}
        wanted = 255 * float(rho_a) if rho_a is not None else max(radii.values(), default=0)
        at = [text for text, level in radii.items() if level == wanted]
        if not at or (rho_a is None and wanted == 0):
            continue
        for panel, part in series.split(setting[setting["rho_a"] == at[0]], [], aliases):
            clean = part[part["attack"] == "clean"]
            for (attack, rho_u), group in series.by_method(part):
                seconds = group["generation_seconds"].astype(float).mean()
                if attack in CONTROLS or attack.partition("[")[0] == _READ or not seconds > 0:
                    continue
                labels = {"panel": panel, "method": group["method"].iloc[0], "attack": attack}
                labels |= {"rho_u": rho_u, "rho_a": at[0], "generation": seconds}
                yield labels | _protection(clean, group, spread) | _origin(group, clean)


def _protection(clean: pd.DataFrame, group: pd.DataFrame, spread: series.Spread) -> dict[str, Any]:
    theirs = clean.groupby("seed")["test_accuracy"].mean().astype(float).dropna()
    values = group["test_accuracy"].astype(float).tolist()
    by_pair = pd.DataFrame({"pair": seed_pairs(group), "value": values}).groupby("pair")
    mine = by_pair["value"].mean().dropna()
    common = [pair for pair in mine.index if pair[1] in theirs.index]
    if common:
        theirs, mine = theirs[[seed for _, seed in common]], mine[common]
        differences = pd.Series(theirs.to_numpy() - mine.to_numpy())
        apart = bool(group["apart"].iloc[0])
        point = series.point(differences, common, spread, (-100, 100), apart=apart)
    else:
        difference = pd.Series([theirs.mean() - mine.mean()])
        point = series.point(difference, [(0, 0)], "none", (-100, 100), apart=False)
        point["seeds"] = min(len(mine), len(theirs))
    return {"clean": theirs.mean(), "accuracy": mine.mean(), **point}


def _origin(group: pd.DataFrame, clean: pd.DataFrame) -> dict[str, Any]:
    devices = dict.fromkeys(map(str, group["generation_device"]))
    resumed = bool(group["generation_resumed"].astype(bool).any())
    keys = f"{series.keys_of(group)} {series.keys_of(clean)}".strip()
    return {"device": " + ".join(devices), "resumed": resumed, "keys": keys}


def _note(data: pd.DataFrame) -> str:
    devices = ", ".join(dict.fromkeys(data["device"]))
    resumed = ", ".join(dict.fromkeys(data[data["resumed"]]["method"]))
    parts = [series.seeds_note(data), f"Generation on {devices}."]
    return " ".join(parts + [f"Interrupted and resumed: {resumed}."] * bool(resumed))


def _draw(ax: Axes, data: pd.DataFrame, looks: Mapping[tuple[str, str], figures.Look]) -> None:
    for pair, one in series.by_method(data):
        ax.errorbar(
            one["generation"],
            one["mean"],
            yerr=series.bars(one) if any(one["spread"]) else None,
            capsize=2,
            elinewidth=0.8,
            markersize=5,
            **looks[pair].dots(),
        )
    figures.log_axis(ax, data["generation"].min(), data["generation"].max())
    ax.set_xlabel("Generation time (s)")
    ax.set_ylabel("Protection (percentage points)")
    low, high = min(0.0, float(data["low"].min())), max(5.0, float(data["high"].max()))
    ax.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    ax.axhline(0, color="0.3", linewidth=0.6, zorder=1)
