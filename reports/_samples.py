"""The images and the noise that results folders keep, found for the methods of a frame."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import pandas as pd

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports import _series as series
from unlearnable_bench.results.names import display

T = TypeVar("T")


def kept(
    cells: pd.DataFrame,
    read: Callable[[str, str], T | None],
    what: str,
    aliases: Mapping[str, str] = {},
) -> tuple[list[tuple[pd.Series, T]], list[str]]:
    """Return what folders keep of the poison of each method, and which methods have nothing.

    Of several seeds the first one with material counts. Clean data and partly poisoned data are
    left out.

    Args:
        cells: from `_series.cells`.
        read: `read_strip` or `read_noise`.
        what: what is read, for the message.
        aliases: label to name.

    Returns:
        The methods' first cells, with the columns `panel` (data set and preset) and `method`, and
        what is kept; the names of the methods without material.

    Raises:
        UserError: no folder keeps anything, or a file is damaged.
    """
    poisoned = ~cells["attack"].isin(["clean", "remainder"])
    found = cells[poisoned & (cells["protect"] == 1)]
    pairs: list[tuple[pd.Series, T]] = []
    lacking: list[str] = []
    for title, group in _methods(found, aliases):
        for cell, material in _material(group, read):
            pairs.append((cell.copy(), material))
            pairs[-1][0]["panel"] = title
            break
        else:
            lacking.append(group["method"].iloc[0])
    if not pairs:
        raise UserError(
            f"the results folder keeps no {what} of any poison; records of before 0.2 have none: "
            "run the command again with another --out"
        )
    return pairs, list(dict.fromkeys(lacking))


def _methods(found: pd.DataFrame, aliases: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    if not found.empty:
        for (dataset, preset), part in found.groupby(["dataset", "preset"], sort=False):
            for _, group in series.by_method(part):
                yield f"{display(str(dataset), aliases)}, {display(str(preset))} preset", group


def _material(
    group: pd.DataFrame, read: Callable[[str, str], T | None]
) -> Iterator[tuple[pd.Series, T]]:
    for _, cell in group.drop_duplicates(["folder", "poison"]).iterrows():
        material = read(str(cell["folder"]), str(cell["poison"]))
        if material is not None:
            yield cell, material
