#!/usr/bin/env bash
# scipy's two-sided permutation test of a correlation is not the share of pairings with so large |r|.
#
# Expected: a two-sided p-value of r is the share of all pairings whose |r| is at least the observed
#           one. The t-based p-value of pearsonr is defined like that.
# Happens:  pearsonr(..., method=PermutationMethod()) doubles the smaller of the two tails. The null
#           distribution of few points is not symmetric, so the p-value is off in either direction:
#           twice the share of |r| in the first example, half of it in the second, where that
#           decides whether p is below 0.05.
# Versions: scipy 1.17.1. The page of permutation_test defines the doubling; that of pearsonr does
#           not mention it.
# Matters:  the correlation of a method's robustness and protection is computed over a handful of
#           radii or methods, exactly where the two definitions differ.
# Our code: tests |r| itself, one-sided, over all pairings of few points
#           (`_permutation_p` in unlearnable_bench/results/correlation.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile scipy==1.17.1 numpy==2.4.6

"$folder/venv/bin/python" -W error - <<'PYTHON'
import math
from itertools import permutations

import scipy
from scipy.stats import PermutationMethod, pearsonr


def share_of_pairings(x, y):
    observed = abs(pearsonr(x, y).statistic)
    sizes = [abs(pearsonr(paired, y).statistic) for paired in permutations(x)]
    return sum(size >= observed - 1e-12 for size in sizes) / len(sizes)


print("scipy", scipy.__version__)
found = []
for x, y in (([0, 0, 0, 0, 1], [0, 0, 0, 0, 1]), ([4, 2, 3, 0, 5], [2, 0, 1, 0, 5])):
    reported = float(pearsonr(x, y, method=PermutationMethod()).pvalue)
    share = share_of_pairings(x, y)
    found += [reported, share]
    print(f"x {x}, y {y}: p {reported:.4f}; share of the 120 pairings with so large |r| {share:.4f}")

expected = [2 / 5, 1 / 5, 1 / 30, 1 / 15]
assert all(map(math.isclose, found, expected)), found
PYTHON
