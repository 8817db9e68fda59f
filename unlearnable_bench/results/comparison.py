"""Comparison of two sets of results: of another preset, machine or author."""

import math

import pandas as pd
from scipy.stats import spearmanr

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.aggregate import (
    GROUP,
    averaged,
    differences,
    distinct_labels,
    one_spelling,
)
from unlearnable_bench.results.replicates import seed_pairs

_RADII = ("rho_a", "rho_u")
_CELL = [name for name in GROUP if name != "preset"]
# Results with the same labels that differ in these are not comparable.
_DATA_KEYS = ("poison.data", "poison.transform", "protection")


def compare(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that both have, regardless of their presets.

    Seeds that only one side has are left out: noises of two seeds can differ more than presets do.

    Args:
        first: from `load_records`.
        second: likewise.

    Returns:
        One row per cell, in the order of the first: its labels; its mean test accuracy over
        the common seeds in percent, as `first` and `second`; the number of common seeds, as
        `pairs`, and that of those whose poisoned images are equal on both sides, as `same`; and
        the names of the settings that differ, as `differing`. A cell without common seeds has 0
        of them, and means over all its seeds.

    Raises:
        UserError: no common cell, no cell at all, or a cell with two presets; cells with the same
            labels that differ in their data or their protected images.
    """
    sides = ("first", "second")
    named = zip(sides, (_of_one_preset(first), _of_one_preset(second)), strict=True)
    # Separately: a label that names something else on the other side is refused below.
    cells = pd.concat([distinct_labels(frame).assign(preset=side) for side, frame in named])
    cells = _paired(cells.assign(**{name: one_spelling(cells[name]) for name in _RADII}))
    results = averaged(cells)
    pairs = cells.drop_duplicates(_CELL)[[*_CELL, "pairs", "same"]]
    means = results.pivot_table("test_accuracy_mean", _CELL, "preset")
    both = means.reindex(columns=sides).dropna()
    if both.empty:
        raise UserError("the folders have no cell in common; run the same cells in both")
    order = results.drop_duplicates(_CELL)[_CELL]
    found = order.merge(both.reset_index(), on=_CELL).merge(pairs, on=_CELL)
    settings = results.pivot_table("setting", _CELL, "preset", aggfunc="first")
    found["differing"] = [
        sorted(differences(*settings.loc[tuple(row), list(sides)]) - {"labels"})
        for row in found[_CELL].to_numpy()
    ]
    for row in found.to_dict("records"):
        other = [name for name in row["differing"] if name.startswith(_DATA_KEYS)]
        if other:
            cell = f"{row['attack']}, rho_a {row['rho_a']} on {row['dataset']}"
            raise UserError(f"{cell} is not comparable: {', '.join(other)} differ")
    return found


def rank_correlation(both: pd.DataFrame) -> float:
    """Return Spearman's correlation of the two columns of `compare`; NaN if one is constant."""
    if min(both[side].nunique() for side in ("first", "second")) == 1:
        return math.nan
    return float(spearmanr(both["first"], both["second"]).statistic)


def _paired(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells, of those with common seeds only the ones of these seeds."""
    replicate = pd.Series(seed_pairs(cells), index=cells.index, dtype=object)
    cells = cells.assign(replicate=replicate)
    pair = cells.groupby([*_CELL, "replicate"])
    common = pair["preset"].transform("nunique") == 2
    counts = {"pairs": common, "same": common & (pair["poison_sha256"].transform("nunique") == 1)}
    for name, chosen in counts.items():
        number = cells[chosen].groupby(_CELL)["replicate"].nunique().rename(name)
        cells = cells.join(number, on=_CELL).fillna({name: 0}).astype({name: int})
    return cells[common | (cells["pairs"] == 0)]


def _of_one_preset(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame; refuse it if it is empty or has a cell with several presets."""
    if frame.empty:
        raise UserError("no finished cell to compare; run `ubench run` first")
    if frame.drop_duplicates([*_CELL, "preset"]).duplicated(_CELL).any():
        names = sorted(frame["preset"].unique())
        raise UserError(
            f"a cell has several presets ({', '.join(names)}); name one for each side, such as "
            f"--presets {names[0]},{names[0]}"
        )
    return frame
