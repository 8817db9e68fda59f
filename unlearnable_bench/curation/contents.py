"""The files of a results folder, each with its check."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.results import marker
from unlearnable_bench.results.autoattack import ROBUST_ACCURACIES
from unlearnable_bench.results.detection import DETECTIONS
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage import seal
from unlearnable_bench.storage.damage import FOLDER, DamagedError, unreadable
from unlearnable_bench.storage.files import read_bytes

_KEY = "[0-9a-f]{32}"
KINDS = {
    "cells": re.compile(rf"{_KEY}\.json"),
    "poisons": re.compile(rf"{_KEY}\.safetensors"),
    # Of some images of the data set only (-HASH), and after some epochs or updates (-NUMBER).
    "networks": re.compile(rf"{_KEY}(-[0-9a-f]{{16}})?(-[0-9]+)?\.safetensors"),
    "strips": re.compile(rf"{_KEY}\.safetensors"),
    "noise": re.compile(rf"{_KEY}\.safetensors"),
    "learners": re.compile(rf"{_KEY}\.safetensors"),
    "autoattack": re.compile(rf"{_KEY}\.json"),
    "robustness": re.compile(rf"{_KEY}\.json"),
    "detection": re.compile(rf"{_KEY}\.json"),
    "failures": re.compile(rf"{_KEY}\.json"),
    "plans": re.compile(r"[0-9a-f]{8}\.json"),
}
"""Folders of results, with the form of their files' names."""

RECORDS = ("cells", "robustness", "detection", "autoattack", "failures", "plans")
"""The small ones, which tables are made of."""

MEASUREMENTS = {one.kind: one for one in (MEASURED_ROBUSTNESS, DETECTIONS, ROBUST_ACCURACIES)}
"""Those that are measurements."""

# Of work in progress, and of operating systems.
_OTHERS = re.compile(r".*\.(lock|soft|tmp|partial)|\._.*|\.DS_Store|\.nfs.*")


def files(path: Path, kinds: tuple[str, ...] = tuple(KINDS)) -> Iterator[tuple[str, Path]]:
    """Yield each file of results with its kind, in the order of their names."""
    for kind in kinds:
        folder = path / kind
        if folder.is_dir():
            names = sorted(one.name for one in folder.iterdir())
            yield from ((kind, folder / name) for name in names if KINDS[kind].fullmatch(name))


def foreign(path: Path) -> list[Path]:
    """Return what no run writes, and the folders of damaged files."""
    found = [
        one
        for one in sorted(path.iterdir())
        if one.name not in (*KINDS, "work", "jobs", marker.NAME) and not _OTHERS.fullmatch(one.name)
    ]
    for kind, form in KINDS.items():
        folder = path / kind
        if folder.is_dir():
            found += [
                one
                for one in sorted(folder.iterdir())
                if not form.fullmatch(one.name) and not _OTHERS.fullmatch(one.name)
            ]
    damaged = path / "work" / FOLDER
    return [*found, damaged] if damaged.exists() else found


def check(folder: ResultsFolder, kind: str, path: Path) -> bool:
    """Check all of a file: its checksum, its key, and what its kind promises.

    Returns:
        Whether it has a checksum, as every version from 0.3 on writes.

    Raises:
        UserError: it is damaged or cannot be read; it is not changed.
    """
    key = path.stem
    if kind == "cells":
        record = folder.record(key)
        return bool(record and record.has_checksum)
    if kind == "poisons":
        folder.poison(key)
        return seal.check_file(path)
    if kind == "plans":
        folder.check_plan(key)
    elif kind == "failures":
        folder.check_failure(key)
    elif kind in MEASUREMENTS:
        MEASUREMENTS[kind].read(folder.path, key)
    elif kind == "learners":
        return _check_tensors(path, "remove it; only training its cell again gives another")
    else:
        return _check_tensors(path)
    return seal.unsealed_json(read_bytes(path))[1]


def _check_tensors(path: Path, step: str = "remove it; a run that needs it makes it again") -> bool:
    try:
        sealed = seal.check_file(path)
        with safe_open(path, "np") as file:
            about = (file.metadata() or {}).get("about")
        if sealed and json.loads(about or "{}").get("key", path.stem) != path.stem:
            raise ValueError("its key is not its name")
    except OSError as error:
        raise unreadable(path, error) from error
    except (SafetensorError, ValueError, AttributeError) as error:
        raise DamagedError(path, error, step) from error
    return sealed


def find(folder: ResultsFolder, prefix: str, kinds: tuple[str, ...] = tuple(KINDS)) -> Path:
    """Return the file whose key begins with a text; a record comes before others of one key.

    Args:
        folder: the results folder.
        prefix: the beginning of the key, or all of it.
        kinds: where to look, in the order of preference.

    Raises:
        UserError: no file, or several keys.
    """
    found: dict[str, Path] = {}
    for _, path in files(folder.path, kinds):
        if path.stem.startswith(prefix):
            found.setdefault(path.stem, path)
    if not found:
        keys = [path.stem for _, path in files(folder.path, kinds[:1])]
        error = unknown("key", prefix, keys[:_SHOWN])
        raise UserError(f"{error}; list them with: ubench status {folder.path} --json")
    if len(found) > 1:
        keys = sorted(found)
        raise UserError(
            f"{prefix!r} is the beginning of {len(found)} keys: {', '.join(keys[:_SHOWN])}; "
            "give more of its digits"
        )
    return next(iter(found.values()))


_SHOWN = 5  # keys that a message names
