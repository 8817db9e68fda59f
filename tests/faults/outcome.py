"""What a results folder holds, without what differs between two runs: times and versions."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.numpy import load_file

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.damage import collected

Outcome = dict[str, Any]

_CHANGING = {"seconds", "warmup_seconds", "resumed", "environment", "created", "peak_memory"}


def of(folder: Path) -> Outcome:
    """Return the content of each file, by name; damaged files are missing."""
    found: Outcome = {}
    with collected():
        for record in ResultsFolder(folder).records():
            found[f"cells/{record.key}"] = _facts(record)
        for one in MEASURED_ROBUSTNESS.all(folder):
            found[f"robustness/{one.key}"] = _without_times(msgspec.structs.asdict(one))
        for key, plan in ResultsFolder(folder).plans(lenient=True).items():
            found[f"plans/{key}"] = plan["cells"]
    for kind in ("poisons", "networks", "strips", "noise"):
        for path in folder.glob(f"{kind}/*.safetensors"):
            with suppress(OSError, SafetensorError):  # damaged
                found[f"{kind}/{path.stem}"] = _digest(path)
    found |= {f"failures/{path.stem}": None for path in folder.glob("failures/*.json")}
    return found


def differences(found: Outcome, expected: Outcome) -> Iterator[str]:
    """Yield how an outcome differs from the expected one."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in expected:
            yield f"{name} is too many"
        elif found[name] != expected[name]:
            yield f"{name} differs: {found[name]} for {expected[name]}"


def contradictions(folder: Path, expected: Outcome) -> Iterator[str]:
    """Yield which sound files in an unfinished folder differ from the expected ones."""
    try:
        found = of(folder)
    except UserError:  # not begun
        return
    failed = {name for name in found if name.startswith("failures/")}
    for line in differences({n: found[n] for n in found.keys() - failed}, expected):
        if not line.endswith("is missing"):
            yield line


def _facts(record: Record) -> dict[str, Any]:
    return _without_times(msgspec.to_builtins(record))


def _without_times(fields: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in fields.items() if name not in _CHANGING}
    if isinstance(kept.get("poison"), dict):
        kept["poison"] = _without_times(kept["poison"])
    return kept


def _digest(path: Path) -> str:
    sha = hashlib.sha256()
    for name, array in sorted(load_file(path).items()):
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
