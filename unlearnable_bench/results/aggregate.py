"""From cells to groups of seeds: what may be averaged, and what must be told apart."""

import hashlib
import json
import math
from collections import ChainMap
from collections.abc import Iterator
from typing import Any

import pandas as pd

from unlearnable_bench.radius import Radius

GROUP = ["dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset"]
SECONDS = ["generation_seconds", "preparation_seconds", "training_seconds"]
CONTROLS = ("clean", "remainder", "random")
# The part of a cell's setting that each label stands for: two cells of one label that differ
# there are not replicates.
_PARTS = {
    "dataset": ("poison.data", "poison.transform"),
    "attack": ("poison.",),
    "learner": ("learner.",),
    "defense": ("defense.",),
    "preset": ("",),
}
# A label means one thing within these alone: `sem` has other steps under another preset, and a
# preset another schedule for adversarial training.
_WITHIN = {
    "attack": ("preset", "dataset"),
    "preset": ("attack", "learner", "defense", "rho_a", "protect"),
}
_SHOWN = ("labels", "rho_a", "poison.seed")


def aggregate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per group of seeds, in the order of the frame.

    Columns: those of `GROUP` and `setting`; `test_accuracy_mean` and `_std`, the sample
    standard deviation (n - 1), 0 for a single seed; `protected_accuracy_mean` and `_std` where
    only some classes are protected; `seeds`; means of seconds without compilation, on what
    `device` names. Cells of one name that differ in more than the seed are told apart as
    `told_apart` does, never averaged. Unfinished cells are left out.

    Args:
        frame: from `load_records`.
    """
    rows = []
    for row, group in groups(frame):
        for kind in ("test_accuracy", "protected_accuracy"):
            values = group[kind].astype(float)
            if not values.isna().all():
                row[f"{kind}_mean"] = values.mean()
                row[f"{kind}_std"] = values.std(ddof=1) if len(values) > 1 else 0.0
        row["seeds"] = len(group)
        row |= {kind: round(float(group[kind].mean()), 2) for kind in SECONDS}
        rows.append(row | {"device": " + ".join(sorted(set(group["device"])))})
    return pd.DataFrame(rows)


def groups(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield what names a group of seeds (`GROUP`, `setting`) and its finished cells."""
    for key, group in told_apart(finished(frame)).groupby(GROUP, sort=False):
        row: dict[str, Any] = dict(zip(GROUP, key, strict=True))
        yield row | {"setting": group["setting"].iloc[0]}, group


def finished(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that are done; all of them where the frame has no status."""
    return frame[frame["status"] == "done"] if "status" in frame else frame


def told_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with equal radii spelled alike, and labels that mean one thing each.

    A label under which several things are found (another version of a plugin, other pixels
    under one file name) gets the first digits of a hash: `mine #3f2a`. The first thing found
    keeps its plain label.
    """
    if frame.empty:
        return frame
    frame = frame.assign(**{name: one_spelling(frame[name]) for name in ("rho_a", "rho_u")})
    leaves = {text: _leaves(json.loads(text)) for text in frame["setting"].unique()}
    taken: set[str] = set()
    for label, prefixes in _PARTS.items():
        parts = {text: _part(found, prefixes, taken) for text, found in leaves.items()}
        taken |= {name for part in parts.values() for name in part}
        frame = frame.assign(**{label: _distinct(frame, label, parts)})
    return frame


def _part(leaves: dict[str, str], prefixes: tuple[str, ...], taken: set[str]) -> dict[str, str]:
    """Return what of a setting a label stands for, less what another label tells already."""
    return {
        name: value
        for name, value in leaves.items()
        if name.startswith(prefixes) and name not in taken and not name.startswith(_SHOWN)
    }


def _distinct(
    frame: pd.DataFrame, label: str, parts: dict[str, dict[str, str]]
) -> "pd.Series[str] | list[str]":
    """Return the labels, with a hash where one stands for another thing than at first."""
    kinds = [label, *_WITHIN.get(label, ())]
    hashes = {text: json.dumps(part, sort_keys=True) for text, part in parts.items()}
    # A folder of thousands of cells has some dozens of these.
    found = frame[[*kinds, "setting"]].drop_duplicates()
    first: dict[tuple[Any, ...], str] = {}
    names: dict[tuple[Any, ...], str] = {}
    for *kind, text in zip(*(found[name].tolist() for name in (*kinds, "setting")), strict=True):
        usual = first.setdefault(tuple(kind), hashes[text])
        if usual != hashes[text]:
            digits = hashlib.sha256(hashes[text].encode()).hexdigest()[:4]
            names[*kind, text] = f"{kind[0]} #{digits}"
    if not names:
        return frame[label]
    columns = (frame[name].tolist() for name in (*kinds, "setting"))
    return [names.get(row, row[0]) for row in zip(*columns, strict=True)]


def differences(first: str, second: str) -> set[str]:
    """Return in what two settings differ, such as `poison.attack.version`."""
    one, other = (_leaves(json.loads(text)) for text in (first, second))
    return {name for name, _ in one.items() ^ other.items()}


def _leaves(value: Any, name: str = "") -> dict[str, str]:
    """Return what a nest of objects holds, as `poison.attack.version` to its value."""
    if not isinstance(value, dict):
        return {name: str(value)}
    parts = (_leaves(item, f"{name}.{key}".lstrip(".")) for key, item in value.items())
    return dict(ChainMap(*parts))


def one_spelling(radii: "pd.Series[str]") -> list[str]:
    """Return the radii with equal ones written alike, as the first of them is."""
    spelled = {r: _radius(r) for r in radii.unique()}
    first: dict[Radius | str, str] = {}
    for text, radius in spelled.items():
        first.setdefault(radius, text)
    names = {text: first[radius] for text, radius in spelled.items()}
    return [names[text] for text in radii.tolist()]


def _radius(text: str) -> Radius | str:
    return text if not text or text.startswith("l2 ") else Radius(text)


def order_of(radius: str) -> float:
    """Return a number by which radii are sorted."""
    kind = _radius(radius)
    return float(kind) if isinstance(kind, Radius) else math.inf
