"""Two sets of results side by side: another preset, another machine, someone else's claim."""

import math

import pandas as pd
from scipy.stats import spearmanr

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.aggregate import GROUP, aggregate, differences, one_spelling

_CELL = [name for name in GROUP if name != "preset"]
# What a cell is about: results of the same name that differ in it answer other questions.
_ABOUT = ("poison.data", "poison.transform", "protection")


def compare(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that both have, whatever their presets.

    Args:
        first: from `load_records`.
        second: likewise.

    Returns:
        One row a cell: what it is, then its mean test accuracy over seeds, in percent, as
        `first` and `second`, and in what its settings differ, as `differing`; in the order of
        the first.

    Raises:
        UserError: they have no cell in common, or one has none, or a cell under two presets;
            cells of one name are of other data, or of other protected images.
    """
    sides = ("first", "second")
    named = zip(sides, (_of_one_preset(first), _of_one_preset(second)), strict=True)
    cells = pd.concat([frame.assign(preset=side) for side, frame in named])
    cells = cells.assign(**{name: one_spelling(cells[name]) for name in ("rho_a", "rho_u")})
    # Each for itself: a label that means another thing on the other side is refused below.
    results = pd.concat([aggregate(cells[cells["preset"] == side]) for side in sides])
    means = results.pivot_table("test_accuracy_mean", _CELL, "preset")
    both = means.reindex(columns=sides).dropna()
    if both.empty:
        raise UserError("these results have no cell in common")
    order = results.drop_duplicates(_CELL)[_CELL]
    found = order.merge(both.reset_index(), on=_CELL)
    pairs = results.pivot_table("setting", _CELL, "preset", aggfunc="first")
    found["differing"] = [
        sorted(differences(*pairs.loc[tuple(row), list(sides)]) - {"labels"})
        for row in found[_CELL].to_numpy()
    ]
    for row in found.to_dict("records"):
        other = [name for name in row["differing"] if name.startswith(_ABOUT)]
        if other:
            cell = f"{row['attack']}, rho_a {row['rho_a']} on {row['dataset']}"
            raise UserError(f"{cell} is not the same in both: {', '.join(other)} differ")
    return found


def rank_correlation(both: pd.DataFrame) -> float:
    """Return Spearman's correlation of two columns of `compare`; NaN where one is constant."""
    if min(both[side].nunique() for side in ("first", "second")) == 1:
        return math.nan
    return float(spearmanr(both["first"], both["second"]).statistic)


def _of_one_preset(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame, refused where it is empty or has a cell under several presets."""
    if frame.empty:
        raise UserError("there is no finished cell to compare; run `ubench run` first")
    if frame.drop_duplicates([*_CELL, "preset"]).duplicated(_CELL).any():
        names = ", ".join(sorted(frame["preset"].unique()))
        raise UserError(f"a cell has several presets ({names}); compare folders with one each")
    return frame
