"""Groups of seeds: which cells are replicates to average, and which differ and need labels."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unlearnable_bench.radius import Radius, norm_and_bound
from unlearnable_bench.results.replicates import are_equal, independent, replicates, seed_pairs
from unlearnable_bench.results.versions import earlier

GROUP = ["dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset"]
SECONDS = ["generation_seconds", "preparation_seconds", "training_seconds"]
CONTROLS = ("clean", "remainder", "random")
# The part of a cell's setting that each label names: two cells with the same label that differ
# there are not replicates.
_PARTS = {
    "dataset": ("poison.data", "poison.transform"),
    "attack": ("poison.",),
    "learner": ("learner.",),
    "defense": ("defense.",),
    "preset": ("",),
}
# A label is only unique together with these: `sem` has other steps in another preset and rows
# name rho_u, and a preset has another schedule for adversarial training.
_WITHIN = {
    "attack": ("preset", "dataset", "rho_u"),
    "preset": ("attack", "learner", "defense", "rho_a", "protect"),
}
_SHOWN = ("labels", "rho_a", "poison.seed")


def aggregate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per group of seeds, in the order of the frame.

    Columns: those of `GROUP` and `setting`; `test_accuracy_mean` and `_std`, the sample
    standard deviation (n - 1), NaN for a single seed; `protected_accuracy_mean` and `_std` where
    only some classes are protected, `poisoned_test_accuracy_mean` and `_std` where test images
    were poisoned; `seeds`, the number of independent values (`results/replicates.py`);
    `noise_seeds` and `learner_seeds`, the number of each if they differ in some cell; means of
    seconds without compilation, on what `device` names. Cells with the same label that differ in
    more than their seeds are never averaged: `distinct_labels` gives them different labels.
    Unfinished cells are left out.

    Args:
        frame: from `load_records`.
    """
    return averaged(distinct_labels(frame))


def averaged(found: pd.DataFrame) -> pd.DataFrame:
    """Return what `aggregate` does, of cells from `distinct_labels`."""
    kinds = ["test_accuracy", "protected_accuracy"]
    kinds += [kind for kind in ("poisoned_test_accuracy",) if kind in found]
    # Columns are extracted once, not once per group, because there can be thousands of groups.
    columns = {kind: numbers(found[kind]) for kind in (*kinds, *SECONDS)}
    settings, devices = found["setting"].tolist(), found["device"].tolist()
    pairs = seed_pairs(found)
    differ = not are_equal(pairs)
    rows = []
    for key, places in positions(found, GROUP):
        mine = [pairs[k] for k in places]
        row: dict[str, Any] = dict(zip(GROUP, key, strict=True))
        row["setting"] = settings[places[0]]
        for kind in kinds:
            values = columns[kind][places]
            if not np.isnan(values).all():
                values = independent(mine, values)
                row[f"{kind}_mean"] = mean(values)
                row[f"{kind}_std"] = deviation(values)
        row["seeds"] = len(replicates(mine))
        if differ:
            noises, learners = zip(*mine, strict=True)
            row |= {"noise_seeds": len({*noises}), "learner_seeds": len({*learners})}
        row |= {kind: round(mean(columns[kind][places]), 2) for kind in SECONDS}
        rows.append(row | {"device": " + ".join(sorted({devices[k] for k in places}))})
    return pd.DataFrame(rows)


Places = npt.NDArray[np.intp]


def positions(
    frame: pd.DataFrame, columns: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], Places]]:
    """Yield each combination of values and the positions of its rows, in order of appearance.

    Many times as fast as iterating over `groupby`, which builds a frame for each group. Rows with
    a missing value are left out, as in `groupby`.

    Args:
        frame: with these columns.
        columns: their names.
    """
    if frame.empty:
        return
    by = frame.groupby(list(columns), sort=False, observed=True)
    numbers = by.ngroup().to_numpy()
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    firsts = frame[list(columns)].iloc[order[starts]]
    keys = zip(*(firsts[name].tolist() for name in columns), strict=True)
    for key, number, places in zip(keys, ordered[starts], np.split(order, starts[1:]), strict=True):
        if number >= 0:
            yield key, places


def numbers(column: "pd.Series[Any]") -> npt.NDArray[np.float64]:
    """Return a column as float64, with NaN for missing values."""
    return np.asarray(column.astype(float), np.float64)


def mean(values: npt.NDArray[np.float64]) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def deviation(values: npt.NDArray[np.float64]) -> float:
    """Return the sample standard deviation (n - 1) of the values that are not NaN."""
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan


def each_once(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each record once, with an index of its own, whatever frames were joined.

    `pd.concat` repeats the index, and a cell that is in two folders. A finished cell counts before
    one that is not.

    Args:
        frame: from `load_records`, or several such frames joined.
    """
    if "key" in frame and not frame["key"].is_unique:
        order = np.argsort(~finished_mask(frame).to_numpy(bool), kind="stable")
        again = frame["key"].iloc[order].duplicated().to_numpy()
        frame = frame.iloc[np.sort(order[~again])]
    return frame if frame.index.is_unique else frame.reset_index(drop=True)


def finished_mask(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Return which cells are finished; all if the frame has no status."""
    return frame["status"] == "done" if "status" in frame else frame["attack"].notna()


def finished(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the finished cells."""
    return frame[finished_mask(frame)] if "status" in frame else frame


def distinct_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the finished cells, with equal radii written alike and unambiguous labels.

    If cells with the same label differ in what the label names (another version of a plugin, other
    pixels in a file of the same name), all but one kind get the first digits of a hash:
    `mine #3f2a`. Cells of an earlier version of a plugin always get one; of other kinds, the first
    has none.
    """
    frame = each_once(frame)
    done = finished(frame)
    return done if done.empty else done.assign(**_final_labels(frame))


# The only columns that the final labels depend on.
_GIVEN = [
    "rho_a", "rho_u", "setting", "protect", "seed", "noise_seed", "status", "last_run", *_PARTS,
]  # fmt: skip
# Every report needs the labels of the same cells, so the last ones are cached. Their inputs are
# copied and compared, so that a frame that was changed in place gets new labels.
_REMEMBERED = 4
_labels_of: list[tuple[pd.DataFrame, dict[str, list[str]]]] = []


def _final_labels(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return the radii and labels of the finished cells, as columns."""
    given = frame[[name for name in _GIVEN if name in frame]].reset_index(drop=True)
    for known, labels in [*_labels_of]:
        if given.equals(known):
            return labels
    old = earlier(frame)  # unfinished cells count
    frame = finished(frame)
    old = old.loc[frame.index]
    for name in ("rho_a", "rho_u"):
        frame = frame.assign(**{name: one_spelling(frame[name])})
    leaves = {text: _leaves(json.loads(text)) for text in frame["setting"].unique()}
    taken: set[str] = set()
    for label, prefixes in _PARTS.items():
        parts = {text: _part(found, prefixes, taken) for text, found in leaves.items()}
        taken |= {name for part in parts.values() for name in part}
        frame = frame.assign(**{label: _distinct(frame, label, parts, old.get(label))})
    labels = {name: frame[name].tolist() for name in ("rho_a", "rho_u", *_PARTS)}
    _labels_of[:] = [(given.copy(), labels), *_labels_of][:_REMEMBERED]
    return labels


def _part(leaves: dict[str, str], prefixes: tuple[str, ...], taken: set[str]) -> dict[str, str]:
    """Return the part of a setting that a label names, without what another label names."""
    return {
        name: value
        for name, value in leaves.items()
        if name.startswith(prefixes) and name not in taken and not name.startswith(_SHOWN)
    }


def _distinct(
    frame: pd.DataFrame,
    label: str,
    parts: dict[str, dict[str, str]],
    is_old: "pd.Series[bool] | None",
) -> "pd.Series[str] | list[str]":
    """Return the labels, with a hash for each further kind of cell with the same label."""
    kinds = [label, *_WITHIN.get(label, ())]
    hashes = {text: json.dumps(part, sort_keys=True) for text, part in parts.items()}
    # A folder with thousands of cells has a few dozen of these.
    found = frame[[*kinds, "setting"]].drop_duplicates()
    old = [False] * len(found) if is_old is None else is_old.loc[found.index].tolist()
    first: dict[tuple[Any, ...], str] = {}
    names: dict[tuple[Any, ...], str] = {}
    rows = zip(*(found[name].tolist() for name in (*kinds, "setting")), strict=True)
    for (*kind, text), earlier_version in zip(rows, old, strict=True):
        usual = "" if earlier_version else first.setdefault(tuple(kind), hashes[text])
        if usual != hashes[text]:
            digits = hashlib.sha256(hashes[text].encode()).hexdigest()[:4]
            names[*kind, text] = f"{kind[0]} #{digits}"
    if not names:
        return frame[label]
    columns = (frame[name].tolist() for name in (*kinds, "setting"))
    return [names.get(row, row[0]) for row in zip(*columns, strict=True)]


def differences(first: str, second: str) -> set[str]:
    """Return the names of the values in which two settings differ: `poison.attack.version`."""
    one, other = (_leaves(json.loads(text)) for text in (first, second))
    return {name for name, _ in one.items() ^ other.items()}


def _leaves(value: Any) -> dict[str, str]:
    """Flatten nested objects: `poison.attack.version` to its value."""
    found: dict[str, str] = {}

    def add(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            found.setdefault(name, str(value))
            return
        for key, item in value.items():
            add(item, f"{name}.{key}".lstrip("."))

    add(value, "")
    return found


def one_spelling(radii: "pd.Series[str]") -> list[str]:
    """Return the radii with equal ones written alike, as the first of them."""
    spelled = {r: _radius(r) for r in radii.unique()}
    first: dict[Radius | str, str] = {}
    for text, radius in spelled.items():
        first.setdefault(radius, text)
    names = {text: first[radius] for text, radius in spelled.items()}
    return [names[text] for text in radii.tolist()]


def _radius(text: str) -> Radius | str:
    return Radius(text) if text and norm_and_bound(text)[0] == "linf" else text


def order_of(radius: str) -> float:
    """Return the sort key of a radius."""
    kind = _radius(radius)
    return float(kind) if isinstance(kind, Radius) else math.inf
