"""Replicates: which of several cells of one setting are independent values.

A cell has two seeds: of its noise and of its training. Learners of one noise share it, so that they
are not independent of each other: they are averaged first, and the noises are the replicates. If
there is only one noise, its learners are the replicates, and say nothing about other noises.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

Pair = tuple[int, int]
"""Seed of the noise, and seed of training."""

Seed = TypeVar("Seed", int, Pair)
"""One seed for both, or a pair."""


def as_pair(seed: int | Pair) -> Pair:
    """Return a seed as a pair."""
    return seed if isinstance(seed, tuple) else (seed, seed)


def seed_pairs(cells: pd.DataFrame) -> list[Pair]:
    """Return the seeds of noise and training of each cell.

    Args:
        cells: from `load_records`, or with a column `seed` only: both are equal.
    """
    if "seed" not in cells:
        return [(k, k) for k in range(len(cells))]
    seeds = cells["seed"].tolist()
    noise_seeds = cells["noise_seed"].tolist() if "noise_seed" in cells else seeds
    # NaN where a frame without the column was joined to one with it.
    pairs = zip(noise_seeds, seeds, strict=True)
    return [(int(seed if pd.isna(noise) else noise), int(seed)) for noise, seed in pairs]


def are_equal(pairs: Iterable[Pair]) -> bool:
    """Return whether each noise has the seed of its learner, as by default."""
    return all(noise == seed for noise, seed in pairs)


def replicates(pairs: Sequence[Pair]) -> list[list[int]]:
    """Return the positions of the cells of each independent value, in the order of the cells.

    Args:
        pairs: seeds of noise and training of each cell.

    Examples:
        >>> replicates([(0, 0), (0, 1), (1, 0), (1, 1)])
        [[0, 1], [2, 3]]
        >>> replicates([(5, 0), (5, 1)])
        [[0], [1]]
    """
    noises: dict[int, list[int]] = {}
    for place, (noise, _) in enumerate(pairs):
        noises.setdefault(noise, []).append(place)
    if len(noises) == 1 or are_equal(pairs):
        return [[place] for place in range(len(pairs))]
    return [*noises.values()]


def independent(pairs: Sequence[Pair], values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the independent values among those of several cells.

    Args:
        pairs: seeds of noise and training of each cell.
        values: one per cell; those that are not finite are left out.
    """
    every = np.asarray(values, np.float64)
    is_finite = np.isfinite(every)
    if are_equal(pairs):
        return every[is_finite]
    known = [pair for pair, one in zip(pairs, is_finite, strict=True) if one]
    return np.array([every[is_finite][group].mean() for group in replicates(known)], np.float64)


@dataclass(frozen=True)
class Design:
    """The seeds behind a mean, if noise and training have seeds of their own.

    Attributes:
        noises: number of seeds of the noise.
        fewest: number of learners of the noise that has fewest.
        most: number of learners of the noise that has most.
    """

    noises: int
    fewest: int
    most: int

    @classmethod
    def of(cls, seeds: Iterable[int | Pair], *, apart: bool = False) -> "Design | None":
        """Return the design of some cells; None if each noise has the seed of its learner.

        Args:
            seeds: seeds of the cells.
            apart: whether noise and training have seeds of their own even if these are equal, as
                in the only cell of several noises that is finished.
        """
        pairs = [as_pair(seed) for seed in seeds]
        if not apart and are_equal(pairs):
            return None
        learners: dict[int, set[int]] = {}
        for noise, seed in pairs:
            learners.setdefault(noise, set()).add(seed)
        counts = [len(seeds) for seeds in learners.values()]
        return cls(len(counts), min(counts), max(counts))

    @property
    def one_noise(self) -> bool:
        """Whether several learners share the only noise."""
        return self.noises == 1 and self.most > 1

    def __str__(self) -> str:
        """Return `2 noise seeds x 3 learner seeds`."""
        return Design.merged([self])

    @staticmethod
    def merged(designs: Iterable["Design"]) -> str:
        """Return several designs as one text: `1 to 2 noise seeds x 3 learner seeds`."""
        found = list(designs)
        noises = [one.noises for one in found]
        learners = min(one.fewest for one in found), max(one.most for one in found)
        return (
            f"{_span(min(noises), max(noises), 'noise seed')} x {_span(*learners, 'learner seed')}"
        )

    @staticmethod
    def notes(designs: Iterable["Design"]) -> list[str]:
        """Return sentences on what the replicates of these designs are."""
        found = list(designs)
        several = any(one.noises > 1 and one.most > 1 for one in found)
        notes = [_AVERAGED] if several else []
        return notes + ([_ONE_NOISE] if any(one.one_noise for one in found) else [])


def seeds_text(designs: Iterable[Design], others: Iterable[tuple[str, int]]) -> str:
    """Return `3 seeds`, or `2 noise seeds x 3 learner seeds (Clean: 3 seeds)`.

    Args:
        designs: of the means whose noise has seeds of its own.
        others: name and number of seeds of each other mean.
    """
    found, plain = list(designs), list(others)
    counts = [seeds for _, seeds in plain]
    same = _span(min(counts), max(counts), "seed") if plain else ""
    if not found:
        return same
    names = dict.fromkeys(name for name, _ in plain)
    who = ", ".join(names) if len(names) <= _MOST_NAMES else "others"
    return Design.merged(found) + (f" ({who}: {same})" if plain else "")


_MOST_NAMES = 3
_AVERAGED = "Learners of one noise are averaged first: the seeds that count are the noise's."
_ONE_NOISE = "With one noise seed, the spread is that of its learners, not that of other noise."


def _span(low: int, high: int, noun: str) -> str:
    text = f"{low}" if low == high else f"{low} to {high}"
    return f"{text} {noun}{'' if high == 1 else 's'}"
