"""Cells and failed measurements of a results folder by their labels, keys and state."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.frame import load_records, select
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS
from unlearnable_bench.results.store import ResultsFolder


def keys_of(
    path: Path,
    selection: Mapping[str, Sequence[str]],
    prefixes: Sequence[str] = (),
    *,
    failed: bool = False,
) -> list[str]:
    """Return the keys of the cells that match everything given; of plans too, if not finished.

    Args:
        path: the results folder.
        selection: column to values, as `select` takes them.
        prefixes: keys or their first digits; empty: all.
        failed: only cells that failed; without a selection, measurements of robustness that failed
            too. The labels of cells say nothing about a measurement.

    Raises:
        UserError: a value or a key that no cell has.
    """
    frame = load_records(path, unfinished=True)
    keys = _failed_measurements(path) if failed and not selection else []
    if not frame.empty:
        frame = select(frame, **selection)
        if failed:
            frame = frame[frame["status"] == "failed"]
        keys = [*map(str, frame["key"]), *keys]
    elif not keys:
        return []
    for prefix in prefixes:
        if not any(key.startswith(prefix) for key in keys):
            raise UserError(f"no cell has the key {prefix!r}; see: ubench status {path} --json")
    return [key for key in keys if not prefixes or key.startswith(tuple(prefixes))]


def _failed_measurements(path: Path) -> list[str]:
    """Return the keys of the measurements of robustness that failed and have no result."""
    failures = ResultsFolder(path).failures(lenient=True)
    return [
        key
        for key, failure in failures.items()
        if "measurement" in (failure.get("labels") or {}) and not MEASURED_ROBUSTNESS.has(path, key)
    ]
