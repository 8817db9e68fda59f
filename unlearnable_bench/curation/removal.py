"""Removal of cells from a results folder, with the files that only they need."""

from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.autoattack import ROBUST_ACCURACIES
from unlearnable_bench.results.detection import DETECTIONS
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.locks import holder

_LENGTH = 32  # digits of the key of a cell or a poison; that of a plan has 8
_OF_POISON = ("poisons", "networks", "strips", "noise")


@dataclass(frozen=True)
class Removal:
    """Files to remove.

    Attributes:
        cells: keys of the cells, and of failed measurements.
        files: every file, the cells' first.
        busy: keys of those that a process is computing, which are left alone.
    """

    cells: tuple[str, ...]
    files: tuple[Path, ...]
    busy: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.lstat().st_size for path in self.files if path.exists())


def removal_of(path: Path, keys: Collection[str]) -> Removal:
    """Return what the removal of cells removes; changes nothing.

    These are their records, failures, checkpoints, kept learners and what AutoAttack measured on
    them; the poisons that no other record was trained on, with their networks, samples and
    measurements; and plans of which no cell is left.

    Args:
        path: the results folder.
        keys: keys of the cells, finished or not, and of failed measurements.

    Raises:
        UserError: a record is damaged, so that it is unknown which poison it needs.
    """
    folder = ResultsFolder(path)
    # Looked at, not claimed: a claim would leave a file behind.
    free = {key for key in keys if holder(path / "work" / f"{key}.lock") is None}
    poisons: dict[str, bool] = {}
    images: dict[str, bool] = {}
    for record in folder.records():
        key, pixels = record.poison["key"], record.poison["sha256"]
        poisons[key] = poisons.get(key, True) and record.key in free
        images[pixels] = images.get(pixels, True) and record.key in free
    unused = {key for key, only in poisons.items() if only}
    files = list(_cell_files(folder, free))
    files += [
        ROBUST_ACCURACIES.path(path, found.key)
        for found in ROBUST_ACCURACIES.all(path)
        if found.cell in free
    ]
    files += [path / kind / f"{key}.safetensors" for kind in _OF_POISON for key in sorted(unused)]
    files += [path / "work" / f"{key}.safetensors" for key in sorted(unused)]
    files += [
        MEASURED_ROBUSTNESS.path(path, found.key)
        for found in MEASURED_ROBUSTNESS.all(path)
        if found.poison in unused
    ]
    files += [
        DETECTIONS.path(path, found.key)
        for found in DETECTIONS.all(path)
        if images.get(found.images)
    ]
    files += [
        path / "plans" / f"{key}.json"
        for key, plan in folder.plans(lenient=True).items()
        if plan["cells"] and free.issuperset(plan["cells"])
    ]
    there = tuple(file for file in files if file.exists())
    return Removal(tuple(sorted(free)), there, tuple(sorted(set(keys) - free)))


def _cell_files(folder: ResultsFolder, keys: Collection[str]) -> Iterator[Path]:
    for key in sorted(keys):
        yield folder.path / "cells" / f"{key}.json"
        yield folder.path / "failures" / f"{key}.json"
        yield from folder.checkpoints(key)
        yield folder.learner(key)


def remove(path: Path, removal: Removal) -> None:
    """Remove these files, unless a process has begun to compute their cell or poison.

    Raises:
        UserError: a file cannot be removed.
    """
    folder = ResultsFolder(path)
    for file in removal.files:
        key = file.stem.removesuffix("-preparation")
        claim = folder.claim(key, wait=False) if len(key) == _LENGTH else nullcontext(True)
        with claim as mine:
            if not mine:
                continue
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(
                    f"{file} cannot be removed ({error.strerror}); check its owner and permissions"
                ) from error
