"""Statistics over seeds: values, intervals, or the reason why one is not computable.

scipy is imported at first use: a report of single-seed results does not need it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.replicates import Seed, as_pair

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
# Fewest seeds for an interval, a paired test, a rank or a bold entry.
FEWEST = 3
# Fewest points for a bootstrap: four give only 35 different resamples.
FEWEST_TO_RESAMPLE = 5
RESAMPLES = 9999
# Values that differ by less, relative to the largest, are equal up to rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class NotComputable:
    """The reason why a statistic is missing; it completes "not computable, because ..."."""

    reason: str

    def __str__(self) -> str:
        """Return the text for tables."""
        return f"not computable, because {self.reason}"


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval.

    Attributes:
        low: lower end, in the unit of the statistic.
        high: upper end; not below `low`.
        level: confidence level, in (0, 1).
        method: how it was computed: `t`, `Fisher z`, `bootstrap (BCa)` or
            `bootstrap (percentile)`.
    """

    low: float
    high: float
    level: float = LEVEL
    method: str = "t"

    @property
    def zero_width(self) -> bool:
        """Whether all values were equal, so that the interval has no information on spread."""
        return self.low == self.high

    def clipped(self, bounds: tuple[float, float]) -> "Interval":
        """Return the interval for display: both ends clipped to `bounds`."""
        low, high = (min(max(end, bounds[0]), bounds[1]) for end in (self.low, self.high))
        return replace(self, low=low, high=high)

    def overlaps(self, other: "Interval") -> bool:
        """Return whether two intervals overlap; touching counts."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Summary:
    """Mean over seeds.

    Attributes:
        mean: mean in the unit of the values.
        std: sample standard deviation (n - 1); needs two values.
        n: number of finite values, the only ones used.
        interval: t interval of the mean; needs three values. Its ends may leave the range of
            an accuracy: a mean of 99 % with a large deviation reaches above 100 %.
        shown: `interval`, clipped for display.
        dropped: number of values that were NaN or infinite.
    """

    mean: float | NotComputable
    std: float | NotComputable
    n: int
    interval: Interval | NotComputable
    shown: Interval | NotComputable
    dropped: int = 0


def by_seed(seeds: Iterable[Seed], values: Iterable[float]) -> dict[Seed, float]:
    """Return one value per seed, so that a seed read twice counts once.

    Args:
        seeds: seeds, or pairs of the noise's and the learner's.
        values: one per seed.

    Raises:
        UserError: a seed has two different values.
    """
    found: dict[Seed, float] = {}
    for seed, value in zip(seeds, values, strict=True):
        known = found.setdefault(seed, value)
        if known != value and not (math.isnan(known) and math.isnan(value)):
            noise_seed, own = as_pair(seed)
            name = f"seed {own}" if own == noise_seed else f"noise seed {noise_seed}, seed {own}"
            raise UserError(
                f"{name} has two different results, {known} and {value}; select one "
                "folder, preset or setting"
            )
    return found


def summarise(
    values: Iterable[float],
    *,
    level: float = LEVEL,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Summary:
    """Return mean, sample standard deviation and t interval.

    Args:
        values: one per seed, in any order and unit; values that are not finite are left out.
        level: confidence level, in (0, 1).
        bounds: range of the unit, such as (0, 100) for percent; only `shown` is clipped to it.

    Raises:
        ValueError: `level` is outside (0, 1).
    """
    check_level(level)
    every = np.sort(np.fromiter(values, dtype=np.float64))
    finite = every[np.isfinite(every)]
    n, dropped = len(finite), len(every) - len(finite)
    if not n:
        nothing = NotComputable("there is no value")
        return Summary(nothing, nothing, 0, nothing, nothing, dropped)
    unit, exponent = scaled(finite)
    mean = math.ldexp(float(unit.mean()), exponent)
    std: float | NotComputable
    if n == 1:
        std = NotComputable("there is only one value")
    elif equal_up_to_rounding(unit, 1.0):
        mean, std = float(finite[0]), 0.0
    else:
        std = math.ldexp(float(unit.std(ddof=1)), exponent)
    if n < FEWEST or isinstance(std, NotComputable):
        few = NotComputable(f"{count(n, 'value')} cannot give an interval; it takes {FEWEST}")
        return Summary(mean, std, n, few, few, dropped)
    margin = _t_quantile(n - 1, level) * std / math.sqrt(n)
    interval = Interval(mean - margin, mean + margin, level)
    return Summary(mean, std, n, interval, interval.clipped(bounds), dropped)


def equal_up_to_rounding(values: Floats, scale: float) -> bool:
    """Return whether the values differ by no more than rounding errors at `scale`."""
    return bool(np.ptp(values) <= ROUNDING * scale)


def scaled(values: Floats) -> tuple[Floats, int]:
    """Return values / 2^e with the largest in [0.5, 1), and e: nothing is rounded.

    Squares of 1e200 or 1e-200 would overflow or vanish.
    """
    exponent = int(np.frexp(np.abs(values).max())[1])
    return np.ldexp(values, -exponent), exponent


def check_level(level: float) -> None:
    """Raise ValueError unless the level is in (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")


def count(n: int, noun: str) -> str:
    """Return "no seeds", "1 seed", "2 seeds"."""
    return f"{n or 'no'} {noun}{'' if n == 1 else 's'}"


@cache
def _t_quantile(freedom: int, level: float) -> float:
    """Return the two-sided critical value of Student's t."""
    from scipy.special import stdtrit  # noqa: PLC0415 - much lighter than scipy.stats

    return float(stdtrit(freedom, (1 + level) / 2))
