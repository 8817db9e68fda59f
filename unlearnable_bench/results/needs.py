"""What the methods, defenses and learners of a table need beyond images and labels."""

from collections.abc import Sequence

import pandas as pd

UNKNOWN = "unknown"
"""Of a plugin that is not installed here."""

_USUAL = ("nothing", "labels")


def needs_of(
    part: pd.DataFrame, kinds: Sequence[str] = ("attack", "defense", "learner")
) -> tuple[tuple[str, str], ...]:
    """Return label and need of each part of the cells that needs more than labels.

    Args:
        part: cells of a table.
        kinds: some of `attack`, `defense` and `learner`.
    """
    found: dict[tuple[str, str], None] = {}
    for kind in kinds:
        if f"{kind}_needs" not in part:
            continue
        for label, needs in zip(part[kind], part[f"{kind}_needs"], strict=True):
            declared = needs if isinstance(needs, str) and needs else UNKNOWN
            beyond = [need for need in declared.split("+") if need not in _USUAL]
            found |= {(str(label), need): None for need in beyond}
    return tuple(found)
