"""Comparison of methods: paired tests, ranks with intervals, and the bold entry of a column.

A statistic is a value or `NotComputable`, which a table prints with its reason. scipy and
statsmodels are imported at first use.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from unlearnable_bench.results.intervals import (
    FEWEST,
    FEWEST_TO_RESAMPLE,
    LEVEL,
    RESAMPLES,
    ROUNDING,
    Floats,
    Interval,
    NotComputable,
    Summary,
    by_seed,
    check_level,
    count,
    equal_up_to_rounding,
    scaled,
    summarise,
)
from unlearnable_bench.results.replicates import Pair, Seed, as_pair, independent

__all__ = [
    "Interval",
    "NoWinner",
    "NotComputable",
    "Paired",
    "RankInterval",
    "Summary",
    "Winner",
    "by_seed",
    "compare_paired",
    "rank_intervals",
    "summarise",
    "winner",
]


@dataclass(frozen=True)
class Paired:
    """Comparison of two methods on their common seeds.

    Attributes:
        mean: mean difference, first minus second.
        n: number of common replicates: of noises if several have learners in common.
        t: paired t statistic with n - 1 degrees of freedom.
        p_value: two-sided p of the paired t-test.
        interval: t interval of the mean difference; needs three common seeds.
        bootstrap: bootstrap interval of the mean difference; needs five common seeds.
        seeds: common seeds, ascending.
        left_out: seeds that only one of the two has, or where a value is not finite.
    """

    mean: float | NotComputable
    n: int
    t: float | NotComputable
    p_value: float | NotComputable
    interval: Interval | NotComputable
    bootstrap: Interval | NotComputable
    seeds: tuple[int | Pair, ...]
    left_out: tuple[int | Pair, ...]


@dataclass(frozen=True)
class RankInterval:
    """Rank of a method, with a simultaneous confidence interval.

    Attributes:
        rank: 1 is the lowest mean; equal means share the smaller rank (1, 1, 3).
        low: best rank that the tests do not reject, in 1..rank.
        high: worst rank that the tests do not reject, in rank..of.
        of: number of ranked methods.
    """

    rank: int
    low: int
    high: int
    of: int


class NoWinner(StrEnum):
    """Why no entry of a column is bold; the text completes a note."""

    ALONE = "there are fewer than two methods to compare"
    FEW_SEEDS = "the best or the second-best method has fewer than three seeds"
    TIE = "the two best methods are tied"
    NOT_BELOW_CLEAN = "no method is below clean accuracy"
    OVERLAP = "the intervals of the two best methods overlap"
    ONE_NOISE = "the best or the second-best method has one noise seed"


@dataclass(frozen=True)
class Winner:
    """The method whose entry is bold, or the reason why no entry is."""

    name: str | None
    reason: NoWinner | None


def compare_paired(
    first: Mapping[Seed, float],
    second: Mapping[Seed, float],
    *,
    level: float = LEVEL,
    seed: int = 0,
    resample: bool = True,
) -> Paired:
    """Compare two methods seed by seed.

    If all differences are equal, zero included, t is undefined, and the interval has zero width.
    Of several noises, the learners of each are averaged first (`results/replicates.py`).

    Args:
        first: value of each seed, or of each pair of the noise's and the learner's.
        second: value of each seed, in the same unit.
        level: confidence level, in (0, 1).
        seed: seed of the bootstrap.
        resample: whether to compute the bootstrap interval, which takes milliseconds.

    Raises:
        ValueError: `level` is outside (0, 1).
    """
    check_level(level)
    seeds = _common(first, second)
    left_out = tuple(sorted((first.keys() | second.keys()) - set(seeds), key=as_pair))
    if not seeds:
        nothing = NotComputable("the two have no seed in common")
        return Paired(nothing, 0, nothing, nothing, nothing, nothing, seeds, left_out)
    sides = _sides(first, second, seeds)
    n = sides.shape[1]
    differences = sides[0] - sides[1]
    mean = float(differences.mean())
    t, p_value, interval = _paired_t(sides, level)
    bootstrap: Interval | NotComputable = NotComputable("it was not requested")
    if resample:
        bootstrap = _bootstrap_of_mean(differences, _constant(sides), level, seed)
    return Paired(mean, n, t, p_value, interval, bootstrap, seeds, left_out)


def rank_intervals(
    results: Mapping[str, Mapping[Seed, float]], level: float = LEVEL
) -> dict[str, RankInterval | NotComputable]:
    """Return the rank of each method's mean, with simultaneous intervals.

    Each pair of methods is tested on its common seeds by the paired t-test, once in either
    direction, and Holm's procedure adjusts all these p-values. With K methods, the interval
    of a method is [1 + number significantly below it, K - number significantly above it].
    For normal differences, all K intervals together hold the true ranks with probability
    `level` or more. Two-sided tests would not bound the error of a wrong direction.

    If two methods have different seeds, means and tests use different values; the interval is then
    widened to include the rank.

    Construction: D. Al Mohamad, J. J. Goeman, E. W. van Zwet, "Simultaneous confidence
    intervals for ranks with application to ranking institutions", Biometrics 78, 2022; with
    stepwise one-sided tests: M. Mogstad, J. P. Romano, A. M. Shaikh, D. Wilhelm, "Inference
    for ranks with applications to mobility across neighbourhoods and academic achievement
    across countries", Review of Economic Studies, 2024, doi:10.1093/restud/rdad006.

    Args:
        results: accuracy of each method by seed, or by pair as in `compare_paired`; lower is
            better.
        level: confidence level of all intervals together, in (0, 1).

    Returns:
        In the order of `results`. A method with fewer than three seeds gets a reason and is not
        one of the K.

    Raises:
        ValueError: `level` is outside (0, 1).
    """
    check_level(level)
    finite = {
        name: {seed: value for seed, value in values.items() if math.isfinite(value)}
        for name, values in results.items()
    }
    counts = {name: len(_values(values)) for name, values in finite.items()}
    ranked = {name: finite[name] for name in sorted(finite) if counts[name] >= FEWEST}
    below = _significantly_below(ranked, level)
    ranks = _ranks_of_means(ranked)
    found: dict[str, RankInterval | NotComputable] = {}
    for name, n in counts.items():
        if name in ranked:
            low = 1 + sum(worse == name for _, worse in below)
            high = len(ranked) - sum(better == name for better, _ in below)
            rank = ranks[name]
            found[name] = RankInterval(rank, min(low, rank), max(high, rank), len(ranked))
        else:
            found[name] = NotComputable(f"{count(n, 'seed')} cannot give a rank; it takes {FEWEST}")
    return found


def winner(
    column: Mapping[str, Summary],
    clean: Summary | float | None = None,
    *,
    digits: int | None = None,
) -> Winner:
    """Return the method whose accuracy is bold: significantly the lowest.

    Args:
        column: the methods of one column, without clean; lower is better. Methods without a
            mean are ignored.
        clean: clean accuracy of the column, in the same unit; None if unknown.
        digits: number of printed decimal places; means that print alike are tied.
    """
    rows = [
        (summary.mean, name, summary)
        for name, summary in column.items()
        if not isinstance(summary.mean, NotComputable)
    ]
    if len(rows) < 2:
        return Winner(None, NoWinner.ALONE)
    (mean, name, best), (next_mean, _, second) = sorted(rows, key=lambda row: row[:2])[:2]
    bound = clean.mean if isinstance(clean, Summary) else clean
    tied = equal_up_to_rounding(np.array([mean, next_mean]), max(abs(mean), abs(next_mean)))
    if digits is not None:
        tied = tied or f"{mean:.{digits}f}" == f"{next_mean:.{digits}f}"
    if isinstance(best.interval, NotComputable) or isinstance(second.interval, NotComputable):
        return Winner(None, NoWinner.FEW_SEEDS)
    if tied:
        return Winner(None, NoWinner.TIE)
    if isinstance(bound, float | int) and math.isfinite(bound) and mean >= bound:
        return Winner(None, NoWinner.NOT_BELOW_CLEAN)
    if best.interval.overlaps(second.interval):
        return Winner(None, NoWinner.OVERLAP)
    return Winner(name, None)


def _values(results: Mapping[Seed, float]) -> Floats:
    """Return the independent values."""
    return independent([as_pair(seed) for seed in results], [*results.values()])


def _common(first: Mapping[Seed, float], second: Mapping[Seed, float]) -> tuple[Seed, ...]:
    """Return the seeds at which both have a finite value, ascending."""
    return tuple(
        seed
        for seed in sorted(first.keys() & second.keys(), key=as_pair)
        if math.isfinite(first[seed]) and math.isfinite(second[seed])
    )


def _sides(
    first: Mapping[Seed, float], second: Mapping[Seed, float], seeds: Sequence[Seed]
) -> Floats:
    """Return the independent values of both at these seeds: shape [2, replicates]."""
    pairs = [as_pair(seed) for seed in seeds]
    return np.stack(
        [independent(pairs, [side[seed] for seed in seeds]) for side in (first, second)]
    )


def _constant(sides: Floats) -> bool:
    """Return whether all differences are equal up to rounding of the operands."""
    return equal_up_to_rounding(sides[0] - sides[1], float(np.abs(sides).max()))


def _paired_t(
    sides: Floats, level: float
) -> tuple[float | NotComputable, float | NotComputable, Interval | NotComputable]:
    """Return t, two-sided p and the interval of the mean difference."""
    n = sides.shape[1]
    if n < FEWEST:
        few = NotComputable(f"{count(n, 'common seed')} cannot give a t-test; it takes {FEWEST}")
        return few, few, few
    if _constant(sides):
        same = NotComputable("the differences of all seeds are equal")
        mean = float((sides[0] - sides[1]).mean())
        return same, same, Interval(mean, mean, level)

    from scipy.stats import ttest_rel  # noqa: PLC0415 - needs most of a second

    unit, exponent = scaled(sides)
    result = ttest_rel(*unit)
    low, high = (math.ldexp(float(end), exponent) for end in result.confidence_interval(level))
    return float(result.statistic), float(result.pvalue), Interval(low, high, level)


def _bootstrap_of_mean(
    differences: Floats, constant: bool, level: float, seed: int
) -> Interval | NotComputable:
    """Return the BCa interval, or the percentile interval if BCa is degenerate."""
    n = len(differences)
    if n < FEWEST_TO_RESAMPLE:
        return NotComputable(
            f"{count(n, 'common seed')} cannot give a bootstrap interval; "
            f"it takes {FEWEST_TO_RESAMPLE}"
        )
    if constant:
        return NotComputable("the differences of all seeds are equal")

    from scipy.stats import DegenerateDataWarning, bootstrap  # noqa: PLC0415

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (differences,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    method = "bootstrap (BCa)"
    if not np.isfinite(found.confidence_interval).all():
        method = "bootstrap (percentile)"
        found = bootstrap(
            (differences,),
            np.mean,
            n_resamples=0,
            bootstrap_result=found,
            confidence_level=level,
            method="percentile",
        )
    low, high = found.confidence_interval
    return Interval(float(low), float(high), level, method)


def _significantly_below(
    ranked: Mapping[str, Mapping[Seed, float]], level: float
) -> set[tuple[str, str]]:
    """Return the pairs (better, worse) that Holm's procedure over both directions rejects."""
    tests: dict[tuple[str, str], float] = {}
    for one, other in combinations(ranked, 2):
        first, second = ranked[one], ranked[other]
        t, p_value, _ = _paired_t(_sides(first, second, _common(first, second)), level)
        # A pair with equal differences or too few common seeds is not rejected.
        if isinstance(t, NotComputable) or isinstance(p_value, NotComputable):
            continue
        better, worse = (one, other) if t < 0 else (other, one)
        tests[better, worse] = p_value / 2
        tests[worse, better] = 1 - p_value / 2
    if not tests:
        return set()

    from statsmodels.stats.multitest import multipletests  # noqa: PLC0415 - needs a second

    rejected = multipletests(list(tests.values()), alpha=1 - level, method="holm")[0]
    return {pair for pair, significant in zip(tests, rejected, strict=True) if significant}


def _ranks_of_means(ranked: Mapping[str, Mapping[Seed, float]]) -> dict[str, int]:
    """Return the rank of each mean; means that are equal up to rounding share the smaller."""
    means = {name: summarise(_values(values)).mean for name, values in ranked.items()}
    known = {name: mean for name, mean in means.items() if not isinstance(mean, NotComputable)}
    slack = ROUNDING * max(map(abs, known.values()), default=0.0)
    return {
        name: 1 + sum(other < mean - slack for other in known.values())
        for name, mean in known.items()
    }
