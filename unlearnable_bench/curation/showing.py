"""One file of a results folder, readable."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from unlearnable_bench.curation.contents import MEASUREMENTS, files, find
from unlearnable_bench.results.command import recipe_of, seeds_of
from unlearnable_bench.results.frame import LABELS
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.store import ResultsFolder

_KINDS = ("cells", "failures", "poisons", *MEASUREMENTS, "plans")


def content_of(path: Path, key: str) -> tuple[str, dict[str, Any]]:
    """Return the kind and the content of the file of a key; of a poison, its metadata.

    Args:
        path: the results folder.
        key: the key, or the beginning of it.

    Raises:
        UserError: no such key, several keys, or a damaged file.
    """
    folder = ResultsFolder(path)
    if not any(file.stem.startswith(key) for _, file in files(path, _KINDS)):
        poisons = {one.poison["key"]: one.poison for one in folder.sound_records()}
        named = [name for name in poisons if name.startswith(key)]
        if len(named) == 1:  # not stored: as a record has it
            return "poisons", dict(poisons[named[0]])
    found = find(folder, key, _KINDS)
    kind, key = found.parent.name, found.stem
    content: Any
    if kind == "cells":
        content = msgspec.to_builtins(folder.record(key))
    elif kind == "failures":
        content = folder.check_failure(key)
    elif kind == "poisons":
        content = (folder.poison(key) or ({}, {}))[1]
    elif kind in MEASUREMENTS:
        content = msgspec.to_builtins(MEASUREMENTS[kind].read(path, key))
    else:
        content = folder.check_plan(key)
    return kind, content


def lines_of(kind: str, content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield headings and texts, for a reader."""
    if kind == "cells":
        yield from _record_lines(content)
    elif kind == "failures":
        yield "reason", str(content["reason"])
        yield from _labels(content.get("labels") or {})
        yield "created", str(content["created"])
        yield "traceback", str(content.get("traceback", "")).rstrip()
    elif kind == "plans":
        yield "command", str(content.get("command", "made in Python"))
        for name in ("created", "last_run"):
            if name in content:
                yield name, str(content[name])
        yield "cells", "\n".join(map(str, content["cells"]))
        if content.get("measurements"):
            yield "measurements", "\n".join(content["measurements"])
    else:
        yield from _flat(content, skip=("identity",))


def _record_lines(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    record = msgspec.convert(content, Record)
    names = (*LABELS, "noise_seed")
    labels = {name: getattr(record, name) for name in names} | {"rho_u": str(record.rho_u)}
    yield "key", record.key
    yield from _labels(labels)
    yield "test accuracy", f"{record.test_accuracy:.2f} % (peak {record.peak_accuracy:.2f} %)"
    if record.protected_accuracy is not None:
        yield "protected classes", f"{record.protected_accuracy:.2f} %"
    yield "train accuracy", f"{record.train_accuracy:.2f} % (poisoned images)"
    yield "by epoch", " ".join(f"{value:.1f}" for value in record.epoch_accuracy)
    poison = record.poison
    budget, quality = poison["budget"], poison.get("quality", {})
    yield "poison", f"{poison['key']}, {budget['norm']} {budget['radius']}"
    if quality:
        yield "quality", ", ".join(f"{name} {value:.4g}" for name, value in quality.items())
    seconds = {"generation": poison["seconds"]} | dict(record.seconds)
    yield "seconds", ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    yield "resumed", "yes" if record.resumed else "no"
    environment = record.environment
    packages = environment.get("packages", {})
    yield "device", f"{environment['device']}, {record.packed} at the same time"
    yield "versions", ", ".join(f"{name} {value}" for name, value in packages.items() if value)
    yield "git", str(environment.get("git"))
    yield "created", record.created
    recipe = recipe_of(labels | {"setting": record.setting})
    command = f"{recipe.command} {seeds_of(labels)}"
    yield "command", "\n".join([command, *recipe.notes])


def _labels(labels: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in labels.items():
        if value not in ("", None):
            yield name, str(value)


def _flat(content: Mapping[str, Any], skip: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        if name not in skip:
            yield name, value if isinstance(value, str) else json.dumps(value)
