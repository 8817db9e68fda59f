"""Correlation of two quantities over few points, with intervals and p values.

A statistic is a value or `NotComputable`, which a table prints with its reason. scipy is
imported at first use.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from unlearnable_bench.results.intervals import (
    FEWEST_TO_RESAMPLE,
    LEVEL,
    RESAMPLES,
    ROUNDING,
    Floats,
    Interval,
    NotComputable,
    check_level,
    count,
    equal_up_to_rounding,
    scaled,
)

# With fewer, |r| is always 1.
FEWEST_POINTS = 3
# Up to 7! permutations are enumerated, even if fewer resamples are requested.
_ALWAYS_EXACT = math.factorial(7)
# Share of the resamples that must vary: a larger gap would reach into the interval's ends.
_ENOUGH_RESAMPLES = 0.9
# Norm of a residual, or smallest singular value, below which unit columns are dependent.
_DEPENDENT = 1e-8


@dataclass(frozen=True)
class PermutationP:
    """Two-sided permutation p: the share of pairings whose |r| is at least the observed one.

    Attributes:
        value: in (0, 1]; a random sample of pairings counts the observed one too.
        permutations: number of pairings compared.
        exact: whether all n! pairings were compared.
    """

    value: float
    permutations: int
    exact: bool


@dataclass(frozen=True)
class Partial:
    """Correlation of x and y after a linear fit on other quantities is removed from both.

    Attributes:
        given: names of the other quantities.
        r: in [-1, 1]; needs k + 3 points for k other quantities.
        interval: Fisher z interval with n - k - 3; needs k + 4 points.
    """

    given: tuple[str, ...]
    r: float | NotComputable
    interval: Interval | NotComputable


@dataclass(frozen=True)
class Correlation:
    """Correlation of two quantities.

    Attributes:
        names: names of x and y.
        n: number of complete points: finite in x, y and every given quantity.
        dropped: number of points left out because a value was NaN or infinite.
        pearson: Pearson's r, in [-1, 1]; needs three points.
        pearson_p: its permutation p.
        fisher: Fisher z interval of `pearson`; needs four points and |r| < 1.
        bootstrap: percentile interval of `pearson` over resampled points; needs five points.
        resamples: number of resamples in `bootstrap`, without those left out.
        resamples_left_out: number of resamples without an r, because x or y was constant.
        spearman: Spearman's rho, in [-1, 1]; ties share their mean rank.
        spearman_p: its permutation p.
        partial: partial correlation; None if no other quantity was given.
    """

    names: tuple[str, str]
    n: int
    dropped: int
    pearson: float | NotComputable
    pearson_p: PermutationP | NotComputable
    fisher: Interval | NotComputable
    bootstrap: Interval | NotComputable
    resamples: int
    resamples_left_out: int
    spearman: float | NotComputable
    spearman_p: PermutationP | NotComputable
    partial: Partial | None


def correlate(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    given: Mapping[str, npt.ArrayLike] | None = None,
    names: tuple[str, str] = ("x", "y"),
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Correlation:
    """Return the correlation of x and y with intervals, p-values and the partial correlation.

    The order of the points and swapping x and y change no result, not even the random ones. A point
    with a value that is not finite, in x, y or a given quantity, is left out everywhere, so that r
    and partial r use the same points.

    Args:
        x: one value per point, of any scale.
        y: one value per point, of any scale.
        given: quantities that the partial correlation removes, by name.
        names: names of x and y, for the reasons.
        level: confidence level, in (0, 1).
        resamples: number of bootstrap resamples, and of random permutations if there are more
            permutations than that; with up to seven points, all are enumerated.
        seed: seed of resamples and random permutations.

    Raises:
        ValueError: the columns differ in length; `level` is outside (0, 1); `resamples` is
            below 1.
    """
    check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    others = dict(given or {})
    table, dropped = _complete([x, y, *others.values()])
    n = table.shape[1]
    reason = _undefined(table[:2], names)
    if reason:
        partial = Partial(tuple(others), reason, reason) if others else None
        return Correlation(
            names, n, dropped, reason, reason, reason, reason, 0, 0, reason, reason, partial
        )
    columns = np.stack([scaled(column)[0] for column in table])
    pair = _oriented(columns[0], columns[1])
    ranks = _oriented(_ranks(table[0]), _ranks(table[1]))
    r = _pearson(*pair)
    bootstrap, left_out = _bootstrap(*pair, r, level, resamples, seed)
    return Correlation(
        names=names,
        n=n,
        dropped=dropped,
        pearson=r,
        pearson_p=_permutation_p(*pair, resamples, seed),
        fisher=_fisher(r, n, 0, level),
        bootstrap=bootstrap,
        resamples=resamples - left_out if n >= FEWEST_TO_RESAMPLE else 0,
        resamples_left_out=left_out,
        spearman=_pearson(*ranks),
        spearman_p=_permutation_p(*ranks, resamples, seed),
        partial=_partial(columns, names, tuple(others), level) if others else None,
    )


def _complete(given: Sequence[npt.ArrayLike]) -> tuple[Floats, int]:
    """Return the complete points, shape [columns, points], and how many were left out.

    They are sorted by value, so that the random draws of a seed do not depend on their order.
    """
    columns = [np.asarray(column, dtype=np.float64) for column in given]
    if len({len(column) for column in columns}) != 1:
        lengths = ", ".join(str(len(column)) for column in columns)
        raise ValueError(f"the columns must have the same length, got {lengths}")
    table = np.stack(columns)
    finite = np.isfinite(table).all(axis=0)
    table = table[:, finite]
    first, second = _oriented(table[0], table[1])
    return table[:, np.lexsort((*table[2:], second, first))], int((~finite).sum())


def _oriented(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return (x, y) or (y, x), independent of the order given, so that swapping changes no draw."""

    def fingerprint(first: Floats, second: Floats) -> list[list[list[float]]]:
        # Ranks first, so that another unit or scale changes no draw either.
        pairs = (_ranks(first), _ranks(second)), (first, second)
        return [sorted(np.stack(pair, axis=1).tolist()) for pair in pairs]

    return (y, x) if fingerprint(y, x) < fingerprint(x, y) else (x, y)


def _undefined(columns: Floats, names: Sequence[str]) -> NotComputable | None:
    """Return why these columns have no correlation, or None."""
    n = columns.shape[1]
    if n < FEWEST_POINTS:
        return NotComputable(
            f"{count(n, 'point')} cannot give a correlation; it takes {FEWEST_POINTS}"
        )
    for name, column in zip(names, columns, strict=True):
        if equal_up_to_rounding(scaled(column)[0], 1.0):
            return NotComputable(f"{name} is constant")
    return None


def _ranks(column: Floats) -> Floats:
    """Return ranks from 1, ties sharing their mean."""
    _, inverse, sizes = np.unique(column, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return np.asarray((last - (sizes - 1) / 2)[inverse], dtype=np.float64)


def _pearson(x: Floats, y: Floats) -> float:
    """Return Pearson's r, exactly 1 or -1 for points on a line up to rounding."""
    from scipy.stats import pearsonr  # noqa: PLC0415 - needs most of a second

    r = float(pearsonr(x, y).statistic)
    return math.copysign(1.0, r) if 1 - abs(r) <= ROUNDING else r


def _fisher(r: float, n: int, given: int, level: float) -> Interval | NotComputable:
    """Return the interval of r, or of a partial r: tanh(atanh(r) +- z / sqrt(n - given - 3)).

    R. A. Fisher, "On the 'probable error' of a coefficient of correlation deduced from a small
    sample", Metron 1, 1921; partial: "The distribution of the partial correlation
    coefficient", Metron 3, 1924.
    """
    freedom = n - given - 3
    if freedom < 1:
        return NotComputable(
            f"{count(n, 'point')} cannot give a Fisher z interval; it takes {given + 4}"
        )
    if abs(r) == 1:
        return NotComputable("all points lie on a line (|r| = 1), where Fisher's z is infinite")
    margin = NormalDist().inv_cdf((1 + level) / 2) / math.sqrt(freedom)
    low, high = (math.tanh(math.atanh(r) + shift) for shift in (-margin, margin))
    return Interval(low, high, level, "Fisher z")


def _bootstrap(
    x: Floats, y: Floats, r: float, level: float, resamples: int, seed: int
) -> tuple[Interval | NotComputable, int]:
    """Return the percentile interval of r over resampled points, and the resamples left out.

    scipy.stats.bootstrap cannot leave out resamples, and a single one without an r makes the
    whole interval NaN.
    """
    n = len(x)
    if n < FEWEST_TO_RESAMPLE:
        reason = f"{count(n, 'point')} cannot give a bootstrap interval"
        return NotComputable(f"{reason}; it takes {FEWEST_TO_RESAMPLE}"), 0
    draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
    drawn = x[draws], y[draws]
    varied = np.all([np.ptp(side, axis=1) > ROUNDING for side in drawn], axis=0)
    left_out = resamples - int(varied.sum())
    if abs(r) == 1:
        return NotComputable("all points lie on a line (|r| = 1), as all resamples do"), left_out
    if left_out > (1 - _ENOUGH_RESAMPLES) * resamples:
        share = f"{left_out} of {resamples} resamples"
        return NotComputable(f"a quantity is constant in {share}, too many to leave out"), left_out

    from scipy.stats import pearsonr  # noqa: PLC0415

    found = pearsonr(*(side[varied] for side in drawn), axis=1).statistic
    low, high = np.clip(np.quantile(found, [(1 - level) / 2, (1 + level) / 2]), -1, 1)
    return Interval(float(low), float(high), level, "bootstrap (percentile)"), left_out


def _permutation_p(x: Floats, y: Floats, resamples: int, seed: int) -> PermutationP:
    """Return the share of pairings of x and y whose |r| is at least the observed one."""
    from scipy.stats import permutation_test  # noqa: PLC0415

    units = _unit(x), _unit(y)

    def size_of_r(permuted: Floats, axis: int = -1) -> Floats:
        # Rounded, so that equal r count as equal in any order of summation.
        size: Floats = np.round(np.abs(np.sum(permuted * units[1], axis=axis)), 12)
        return size

    exact = math.factorial(len(x)) <= max(resamples, _ALWAYS_EXACT)
    permutations = math.factorial(len(x)) if exact else resamples
    found = permutation_test(
        (units[0],),
        size_of_r,
        permutation_type="pairings",
        alternative="greater",
        n_resamples=permutations,
        batch=1000,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return PermutationP(float(found.pvalue), permutations, exact)


def _partial(
    columns: Floats, names: tuple[str, str], given: tuple[str, ...], level: float
) -> Partial:
    """Return the correlation of the residuals of the first two columns, fitted on the others."""
    n, k = columns.shape[1], len(given)
    if n < k + 3:
        few = f"{count(n, 'point')} cannot give a partial correlation given {k}; it takes {k + 3}"
        return Partial(given, NotComputable(few), NotComputable(few))
    reason = _undefined(columns[2:], given)
    others = np.stack([_unit(column) for column in columns[2:]], axis=1)
    if not reason and np.linalg.svd(others, compute_uv=False)[-1] < _DEPENDENT:
        reason = NotComputable(f"{', '.join(given)} are linearly dependent")
    basis = np.linalg.qr(others)[0]
    residuals = []
    for name, column in zip(names, columns[:2], strict=True):
        unit = _unit(column)
        residual = unit - basis @ (basis.T @ unit)
        if not reason and np.linalg.norm(residual) < _DEPENDENT:
            reason = NotComputable(f"{name} is a linear function of {', '.join(given)}")
        residuals.append(residual)
    if reason:
        return Partial(given, reason, reason)
    r = _pearson(*residuals)
    return Partial(given, r, _fisher(r, n, k, level))


def _unit(column: Floats) -> Floats:
    """Return the column with mean zero and length one; zeros if it is constant."""
    centred: Floats = column - column.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length else centred
