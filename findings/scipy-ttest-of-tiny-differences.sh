#!/usr/bin/env bash
# scipy's paired t-test depends on the unit: tiny differences give t = inf and p = 0.
#
# Expected: t is a ratio, so multiplying all values by one factor changes neither t nor p.
# Happens:  the variance is a mean of squares. Squares of 1e-200 are 0 in double precision, so t is
#           a number divided by 0. The result is the most significant one there is, p = 0, without
#           a warning. The true t of the differences 1, 2, 4 is sqrt(7) with p = 0.118.
# Versions: scipy 1.17.1.
# Matters:  benchmarks compare quantities of very different scales, such as accuracies in percent,
#           seconds, and losses of a surrogate that has fitted its noise (near 0). A p-value of 0 in
#           a table of comparisons should never come from the unit.
# Our code: divides both samples by a power of two first, so that the largest value is in [0.5, 1)
#           and nothing is rounded (`scaled` in unlearnable_bench/results/intervals.py, called by
#           unlearnable_bench/results/statistics.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scipy==1.17.1 numpy==2.4.6

"$folder/venv/bin/python" -W error - <<'PYTHON'
import math

import scipy
from scipy.stats import ttest_rel

print("scipy", scipy.__version__)
found = {}
for unit in (1.0, 1e-100, 1e-200):
    result = ttest_rel([unit, 2 * unit, 4 * unit], [0, 0, 0])
    found[unit] = float(result.statistic), float(result.pvalue)
    print(f"differences 1, 2, 4 in units of {unit:g}: t {found[unit][0]:.4f}, p {found[unit][1]:.4f}")

for unit in (1.0, 1e-100):
    assert math.isclose(found[unit][0], math.sqrt(7)), found
    assert 0.118 < found[unit][1] < 0.1182, found
assert found[1e-200] == (math.inf, 0.0), found
PYTHON
