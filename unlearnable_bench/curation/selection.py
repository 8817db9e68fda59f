"""Cells of a results folder by their labels, keys and state."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.frame import load_records, select


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
        failed: only cells that failed.

    Raises:
        UserError: a value or a key that no cell has.
    """
    frame = load_records(path, unfinished=True)
    if frame.empty:
        return []
    frame = select(frame, **selection)
    if failed:
        frame = frame[frame["status"] == "failed"]
    keys = [str(key) for key in frame["key"]]
    for prefix in prefixes:
        if not any(key.startswith(prefix) for key in keys):
            raise UserError(f"no cell has the key {prefix!r}; see: ubench status {path} --json")
    return [key for key in keys if not prefixes or key.startswith(tuple(prefixes))]
