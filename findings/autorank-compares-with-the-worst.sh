#!/usr/bin/env bash
# autorank's table starts with the worst method and gives all effect sizes against it.
#
# Expected: with order="descending", the default, the method of the highest values has rank 1 and the
#           first row, and effect sizes are differences from it, as the documentation says.
# Happens:  the mean ranks are right (the best method has 1), but the frequentist table is sorted by
#           them in descending order. The worst method comes first with the effect 0, and
#           each other effect is the difference from the worst; the same order goes into the table of
#           LaTeX. The Bayesian approach sorts by the mean, and has the best method
#           first. Errors with order="ascending" are right, too.
# Versions: autorank 1.3.0. The documentation has effect sizes against the highest mean, or the
#           highest ranking approach (pull request 46 of the project).
# Matters:  accuracies of defences or of surrogates over data sets: the first row of the table is
#           taken for the winner, and the effect of the runner-up for its distance from the best.
# Our code: does not use autorank; it orders methods itself, and compares each pair
#           (reports/paired.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile autorank==1.3.0 \
    numpy==2.4.6 pandas==3.1.1 scipy==1.17.1 statsmodels==0.15.0 baycomp==1.0.3 matplotlib==3.11.2

MPLCONFIGDIR="$folder" MPLBACKEND=agg "$folder/venv/bin/python" - <<'PYTHON'
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO

import numpy as np
import pandas as pd
from autorank import autorank

print("autorank", version("autorank"))
rng = np.random.default_rng(0)
accuracy = rng.normal(80, 3, (20, 1)) + rng.normal(0, 1, (20, 3)) + [0, 2, 6]
accuracy = pd.DataFrame(accuracy, columns=["weak", "middle", "strong"])
print("mean accuracies:", {name: round(float(x), 1) for name, x in accuracy.mean().items()})


def table(data: pd.DataFrame, **options: str) -> list[str]:
    with redirect_stdout(StringIO()):
        found = autorank(data, **options).rankdf
    effects = {name: round(float(x), 2) for name, x in found["effect_size"].items()}
    print(f"{options or 'by default'}: effect sizes in the order of the table {effects}")
    if "meanrank" in found:
        ranks = found["meanrank"]
        assert ranks["strong"] < ranks["middle"] < ranks["weak"], ranks
    assert effects[found.index[0]] == 0 and abs(effects[found.index[2]]) > 1.5, effects
    return list(found.index)


WORST_FIRST = ["weak", "middle", "strong"]
assert table(accuracy) == WORST_FIRST
assert table(accuracy, force_mode="nonparametric") == WORST_FIRST
assert table(accuracy, approach="bayesian") == WORST_FIRST[::-1]
assert table(100 - accuracy, order="ascending") == WORST_FIRST[::-1]
PYTHON
