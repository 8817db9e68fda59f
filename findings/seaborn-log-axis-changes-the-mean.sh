#!/usr/bin/env bash
# seaborn's lines, points and bars are of another mean if the axis was made logarithmic before.
#
# Expected: a logarithmic axis shows the same means in other places, whether it is set before or
#           after the values are drawn.
# Happens:  on an axis that is logarithmic already, lineplot, pointplot and barplot average the
#           logarithms: they show the geometric mean, without a word in the figure. With errorbar="se",
#           error bars are of the logarithms, too. Setting the scale after drawing gives the
#           arithmetic mean. The order of two methods may change between the two. A value of 0 in one
#           seed makes the point 0, which a logarithmic axis does not show.
# Versions: seaborn 0.13.2, matplotlib 3.11.2. The page of lineplot does not mention scales, those of
#           pointplot and barplot not what they do to the mean. The maintainers call it intended
#           (issue 3837).
# Matters:  robust accuracies, losses and training times of several seeds on logarithmic axes do
#           not agree with the table, and two panels of a shared axis may differ by the order of
#           calls.
# Our code: averages before it draws, by matplotlib. It draws with seaborn a heat map and the line of a
#           regression, on linear axes (reports/heat_map.py, reports/correlation_scatter.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile \
    seaborn==0.13.2 matplotlib==3.11.2 pandas==3.1.1 numpy==2.4.6

MPLCONFIGDIR="$folder" MPLBACKEND=agg "$folder/venv/bin/python" -W error::UserWarning - <<'PYTHON'
import math

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

print("seaborn", sns.__version__, "matplotlib", matplotlib.__version__)
RUNS = {"A": [1.0, 1.0, 10.0], "B": [3.0, 3.0, 3.0], "C": [0.0, 1.0, 10.0]}


def means(plot, log_first: bool) -> dict[str, float]:
    """Return the heights of the means of three seeds on an axis that is logarithmic in the end."""
    ax = Figure().add_subplot()
    if log_first:
        ax.set_yscale("log")
    runs = pd.DataFrame(RUNS).melt(var_name="method", value_name="accuracy")
    plot(runs, x="method", y="accuracy", ax=ax, errorbar=None)
    ax.set_yscale("log")
    heights = [bar.get_height() for bar in ax.patches] or ax.lines[0].get_ydata()
    return {name: float(height) for name, height in zip(RUNS, heights, strict=True)}


print("seeds", RUNS)
for plot in (sns.lineplot, sns.pointplot, sns.barplot):
    after, before = means(plot, log_first=False), means(plot, log_first=True)
    for when, found in (("after", after), ("before", before)):
        rounded = {name: round(height, 2) for name, height in found.items()}
        print(f"{plot.__name__:9}, log axis set {when:6} drawing: {rounded}")
    for name, values in RUNS.items():
        assert math.isclose(after[name], sum(values) / 3), after
        assert math.isclose(before[name], math.prod(values) ** (1 / 3), abs_tol=1e-12), before
    assert after["A"] > after["B"] and before["A"] < before["B"]
PYTHON
