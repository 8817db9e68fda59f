#!/usr/bin/env bash
# Holm's correction in statsmodels runs a full garbage collection on every call.
#
# Expected: the correction of a few p-values takes microseconds, whatever else is in memory.
# Happens:  multipletests(..., method="holm") collects all generations of Python's garbage
#           collector each time, so one call takes as long as walking over every object that is
#           alive: some tens of milliseconds once scipy and pandas are imported, and more with a large
#           results folder loaded. The methods bonferroni, sidak and fdr_bh do not. A pull request
#           that removed it was closed: github.com/statsmodels/statsmodels/pull/8671
# Versions: statsmodels 0.15.0, Python 3.11.
# Matters:  a report corrects the comparisons of each table, radius and data set on their own.
#           Thousands of calls spend nearly all their time in the collector.
# Our code: calls it once a table, for all comparisons together (`rank_intervals` in
#           unlearnable_bench/results/statistics.py, `_holm` in reports/paired.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1

"$folder/venv/bin/python" - <<'PYTHON'
import gc
import time

import statsmodels
from statsmodels.stats.multitest import multipletests

full_collections = 0


def count(phase, about):
    global full_collections
    full_collections += phase == "start" and about["generation"] == 2


def measure(method):
    global full_collections
    full_collections = 0
    start = time.perf_counter()
    for _ in range(5):
        multipletests(p_values, method=method)
    milliseconds = (time.perf_counter() - start) / 5 * 1000
    print(f"{method:10} {full_collections} full collections in 5 calls, {milliseconds:.2f} ms each")
    return full_collections


print("statsmodels", statsmodels.__version__)
p_values = [k / 100 for k in range(1, 11)]
gc.callbacks.append(count)
found = {method: measure(method) for method in ("bonferroni", "sidak", "fdr_bh", "holm")}
assert found == {"bonferroni": 0, "sidak": 0, "fdr_bh": 0, "holm": 5}, found
PYTHON
