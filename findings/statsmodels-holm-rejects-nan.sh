#!/usr/bin/env bash
# Holm's correction in statsmodels declares a missing p-value significant.
#
# Expected: a NaN among the p-values raises an error, or is left out, or at least is not rejected.
# Happens:  NaN is sorted last, where no comparison with the threshold is false, so Holm's
#           step-down procedure never stops at it. The hypothesis is rejected whenever those of all
#           other p-values are. NaN also counts as one test, which makes the other adjusted
#           p-values larger. There is no warning. Bonferroni does not reject the NaN;
#           scipy.stats.false_discovery_control raises an error.
# Versions: statsmodels 0.15.0, scipy 1.17.1.
# Matters:  a method with too few common seeds, or with the same difference for every seed, has no
#           p-value. It would appear in a table as significantly better.
# Our code: leaves out comparisons without a p-value before it corrects the others (`_holm` in
#           reports/paired.py, `_significantly_below` in unlearnable_bench/results/statistics.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1

"$folder/venv/bin/python" -W error - <<'PYTHON'
import math

import scipy.stats
import statsmodels
from statsmodels.stats.multitest import multipletests

print("statsmodels", statsmodels.__version__)
p_values = [0.01, math.nan, 0.02]
found = {}
for method in ("holm", "holm-sidak", "bonferroni"):
    rejected, adjusted = multipletests(p_values, method=method)[:2]
    found[method] = rejected.tolist()
    print(f"{method:10} of {p_values}: rejected {rejected.tolist()}, adjusted {adjusted.tolist()}")
known = multipletests([0.01, 0.02], method="holm")[1].tolist()
print("holm       without the NaN: adjusted", known)
try:
    scipy.stats.false_discovery_control(p_values)
    scipy_refuses = False
except ValueError as error:
    scipy_refuses = True
    print("scipy      false_discovery_control:", error)

assert found["holm"] == found["holm-sidak"] == [True, True, True], found
assert not found["bonferroni"][1], found
assert known == [0.02, 0.02], known
assert multipletests(p_values, method="holm")[1][0] == 0.03
assert scipy_refuses
PYTHON
