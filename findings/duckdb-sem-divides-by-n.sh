#!/usr/bin/env bash
# DuckDB's standard error of the mean takes the seeds for all the seeds that there are.
#
# Expected: sem(x) is the sample standard deviation over the square root of n, as that of scipy, of
#           pandas and of other databases, and as DuckDB's own stddev(x) / sqrt(count(x)).
# Happens:  sem(x) takes the standard deviation of a whole population, with n instead of n - 1,
#           while stddev and variance of the same database are those of a sample. It is too small
#           by sqrt((n - 1) / n): 29 % for two seeds, 18 % for three, 11 % for five. For one seed it
#           is 0, where stddev is NULL: a method that ran once seems to be known exactly.
# Versions: duckdb 2.0.1, and likewise 1.4.1. The description in the database and in the
#           documentation is the name of the statistic, without a formula.
# Matters:  tables of few seeds that are read from Parquet or CSV by SQL get error bars and
#           intervals that are too narrow, most so where there are fewest seeds.
# Our code: does not use DuckDB. Its intervals are of t with n - 1 degrees of freedom
#           (unlearnable_bench/results/statistics.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile duckdb==2.0.1

"$folder/venv/bin/python" -W error - <<'PYTHON'
import math
import statistics

import duckdb

print("duckdb", duckdb.__version__)
for seeds in ([90.0, 92.0, 97.0], [90.0, 97.0], [90.0]):
    values = ", ".join(f"({value}::DOUBLE)" for value in seeds)
    query = f"SELECT sem(x), stddev(x) / sqrt(count(x)) FROM (VALUES {values}) AS runs(x)"
    sem, own = duckdb.sql(query).fetchall()[0]
    shown = own if own is None else round(own, 3)
    print(f"accuracies {seeds}: sem {sem:.3f}, stddev / sqrt(n) {shown}")
    assert math.isclose(sem, statistics.pstdev(seeds) / math.sqrt(len(seeds)), abs_tol=1e-12), sem
    if len(seeds) == 1:
        assert own is None, own
    else:
        assert math.isclose(own, statistics.stdev(seeds) / math.sqrt(len(seeds))), own
        assert math.isclose(sem / own, math.sqrt(1 - 1 / len(seeds))), sem / own
PYTHON
