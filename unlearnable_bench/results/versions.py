"""Cells that an earlier version of a plugin or of a file made, next to those of the newest."""

import json
from functools import lru_cache
from typing import Any, NamedTuple

import pandas as pd

# The labels that name the plugins of a cell, and a cell's other labels.
_CELL = ("dataset", "attack", "learner", "defense", "rho_a", "protect", "preset", "seed")


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

    The newest version of a plugin is that of the record made last; a cell of any other version,
    source or package is earlier. So is a cell of another content of the file under the same label.
    Columns are `attack`, `learner` and `defense`, and `unfinished`: a failed or missing cell with
    the same labels and seed as a finished cell of a later plan, all bool and with the index of the
    frame.

    Args:
        frame: from `load_records`, older plans first.
    """
    columns = ("attack", "learner", "defense", "unfinished")
    found = {name: [False] * len(frame) for name in columns}
    if not frame.empty and "created" in frame:
        settings, labels = frame["setting"].tolist(), frame["attack"].tolist()
        newest: dict[tuple[str, ...], tuple[str, str]] = {}
        for setting, label, created in zip(settings, labels, frame["created"], strict=True):
            for key, value, _ in _compared(setting, label):
                newest[key] = max(newest.get(key, ("", "")), (str(created), value))
        for place, (setting, label) in enumerate(zip(settings, labels, strict=True)):
            for key, value, column in _compared(setting, label):
                found[column][place] |= newest[key][1] != value
    if "status" in frame:
        found["unfinished"] = _replaced(frame)
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


def _replaced(frame: pd.DataFrame) -> list[bool]:
    """Return which unfinished cells a finished one with equal labels replaces later on."""
    done = (frame["status"] == "done").tolist()
    if all(done):
        return [False] * len(frame)
    later: dict[tuple[Any, ...], set[Any]] = {}
    replaced = []
    cells = zip(*(frame[name].tolist() for name in _CELL), strict=True)
    rows = [*zip(cells, frame["rho_u"].tolist(), done, strict=True)]
    for cell, rho_u, finished in reversed(rows):
        radii = later.setdefault(cell, set())
        # A plan does not know the budget of an attack without the option rho_u.
        known = isinstance(rho_u, str) and bool(rho_u)
        replaced.append(not finished and (rho_u in radii if known else bool(radii)))
        if finished:
            radii.add(rho_u)
    return replaced[::-1]
