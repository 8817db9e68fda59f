"""Stored images and noise of the methods of a frame."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import pandas as pd

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports import _series as series
from unlearnable_bench.results.names import display
from unlearnable_bench.storage.damage import DamagedError, note

T = TypeVar("T")


def stored_samples(
    cells: pd.DataFrame,
    read: Callable[[str, str], T | None],
    what: str,
    aliases: Mapping[str, str] = {},
) -> tuple[list[tuple[pd.Series, T]], list[str]]:
    """Return the stored samples of each method's poison, and the methods without samples.

    For each method, the first seed with samples is used. Clean data, partly poisoned data and
    damaged samples are left out.

    Args:
        cells: from `_series.cells`.
        read: `read_strip` or `read_noise`.
        what: "images" or "noise", for the message.
        aliases: label to name.

    Returns:
        The first cell of each method, with the columns `panel` (data set and preset) and `method`,
        and its samples; the names of the methods without samples.

    Raises:
        UserError: no samples.
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
            f"these folders have no {what} of poisons: archives of records have none, and "
            "versions before 0.2 did not store them; run the command again with another --out"
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
        try:
            material = read(str(cell["folder"]), str(cell["poison"]))
        except DamagedError as error:
            note(f"{error.path} is damaged ({error.reason}); it is left out")
            continue
        if material is not None:
            yield cell, material
