"""What the next run clears away: temporary folders of killed processes, state of finished work."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from unlearnable_bench.errors import UserError
from unlearnable_bench.storage.files import clear_leftovers, locked

_RESULTS = ("cells", "poisons", "networks", "learners", "strips", "noise", "robustness")
FOLDERS = frozenset([*_RESULTS, "autoattack", "detection", "plans", "failures", "work", "jobs"])
"""Names of the folders in a results folder."""


def clear(path: Path) -> None:
    """Remove from a results folder what is provably left over.

    Temporary folders and soft locks whose process has ended, and checkpoints of finished cells,
    poisons and networks, unless another process holds their lock.
    """
    for folder in (path, *(path / name for name in sorted(FOLDERS))):
        clear_leftovers(folder)
    for state, lock in _finished(path):
        with suppress(OSError, UserError), locked(lock, wait=False) as mine:
            if mine:
                state.unlink(missing_ok=True)
    for soft in path.glob("work/*.lock.soft"):  # of a process that was killed before its release
        with suppress(OSError, UserError), locked(soft.with_suffix(""), wait=False):
            pass


def _finished(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the checkpoints of finished work, with their locks."""
    for state in path.glob("work/*.safetensors"):
        key = state.stem.removesuffix("-preparation")
        results = (
            f"cells/{key}.json",
            f"poisons/{key}.safetensors",
            f"autoattack/{key}.json",
            f"detection/{key}.json",
        )
        if any((path / result).exists() for result in results):
            yield state, state.with_name(f"{key}.lock")
    for state in path.glob("networks/*.partial"):
        network = state.with_suffix(".safetensors")
        if network.exists():
            yield state, network.with_suffix(".lock")
