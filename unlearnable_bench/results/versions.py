"""Cells of another version of a plugin or of a file than the one that was run last."""

import json
from functools import lru_cache
from typing import Any, NamedTuple

import pandas as pd

# The labels that name the plugins of a cell, and a cell's other labels.
_CELL = (
    "dataset", "attack", "learner", "defense", "rho_a", "protect", "preset", "seed", "noise_seed",
)  # fmt: skip


class _Code(NamedTuple):
    """What determines the behaviour of a plugin, apart from its options.

    Attributes:
        label: the column of the frame that names it.
        kind: its role; a network may be learner and surrogate.
        name: registered name.
        text: version, hash of the source and package.
        fingerprint: hash of the file that an option refers to.
    """

    label: str
    kind: str
    name: str
    text: str
    fingerprint: str


def earlier(frame: pd.DataFrame) -> pd.DataFrame:
    """Return which cells are of an earlier version: one column per label that names a plugin.

    The newest version of a plugin is that of the cell that was run last; a cell of any other
    version, source or package is earlier. So is a cell of another content of the file under the
    same label, and one with the labels and seed of a failed or missing cell that was run later,
    whose code is not known. Columns are `attack`, `learner` and `defense`, and `unfinished`: a
    failed or missing cell with the labels and seed of a finished one that was run later, all bool
    and with the index of the frame.

    Args:
        frame: from `load_records`.
    """
    columns = ("attack", "learner", "defense", "unfinished")
    found = {name: [False] * len(frame) for name in columns}
    if not frame.empty and "last_run" in frame:
        settings, labels = frame["setting"].tolist(), frame["attack"].tolist()
        newest: dict[tuple[str, ...], tuple[str, str]] = {}
        for setting, label, run in zip(settings, labels, frame["last_run"], strict=True):
            for key, value, _ in _compared(setting, label):
                newest[key] = max(newest.get(key, ("", "")), (str(run), value))
        for place, (setting, label) in enumerate(zip(settings, labels, strict=True)):
            for key, value, column in _compared(setting, label):
                found[column][place] |= newest[key][1] != value
        if "status" in frame:
            done = (frame["status"] == "done").tolist()
            replaced = _replaced(frame, done)
            found["unfinished"] = [a and not b for a, b in zip(replaced, done, strict=True)]
            found["attack"] = [
                a or (b and c) for a, b, c in zip(found["attack"], replaced, done, strict=True)
            ]
    return pd.DataFrame(found, index=frame.index)


def _compared(setting: Any, label: str) -> list[tuple[tuple[str, ...], str, str]]:
    """Return what must be equal in cells of one version: its key, the value, and the column."""
    compared: list[tuple[tuple[str, ...], str, str]] = []
    for code in _codes(setting) if isinstance(setting, str) and setting else ():
        compared.append(((code.kind, code.name), code.text, code.label))
        if code.fingerprint:
            compared.append(((code.kind, code.name, label), code.fingerprint, code.label))
    return compared


@lru_cache(maxsize=1 << 16)
def _codes(setting: str) -> tuple[_Code, ...]:
    identity = json.loads(setting)
    poison, defense = identity.get("poison", {}), identity.get("defense", {})
    plugins = [
        ("attack", "attack", poison.get("attack")),
        ("attack", "network", poison.get("surrogate")),
        ("learner", "network", identity.get("learner")),
        ("defense", "defense", defense),
        *(("defense", "defense", part) for part in defense.get("options", {}).get("parts", ())),
    ]
    return tuple(
        _Code(
            label,
            kind,
            plugin["name"],
            json.dumps([plugin.get(name) for name in ("version", "source", "package")]),
            plugin.get("fingerprint", ""),
        )
        for label, kind, plugin in plugins
        if plugin and "name" in plugin
    )


def _replaced(frame: pd.DataFrame, done: list[bool]) -> list[bool]:
    """Return which cells one with equal labels replaces, of which one of the two is not finished.

    Two finished cells with equal labels may differ in the images, and are told apart by their code.
    """
    if all(done):
        return [False] * len(frame)
    labels = (frame[name].tolist() for name in _CELL if name in frame)
    cells = list(zip(*labels, strict=True))
    rows = [*zip(cells, frame["rho_u"].tolist(), frame["last_run"].tolist(), done, strict=True)]
    last: dict[tuple[Any, ...], list[tuple[str, bool, Any]]] = {}
    for cell, rho_u, run, finished in rows:
        last.setdefault(cell, []).append((str(run), finished, rho_u))
    return [
        any(
            later > str(run) and other != finished and _may_be_equal(radius, rho_u)
            for later, other, radius in last[cell]
        )
        for cell, rho_u, run, finished in rows
    ]


def _may_be_equal(one: Any, other: Any) -> bool:
    """Return whether two radii are equal, or one is not known.

    A plan does not know the budget of an attack without the option rho_u.
    """
    known = [isinstance(radius, str) and bool(radius) for radius in (one, other)]
    return not all(known) or one == other
