"""Check of every file of a results folder."""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unlearnable_bench.curation.contents import check, files, foreign
from unlearnable_bench.errors import UserError
from unlearnable_bench.results.store import ResultsFolder


@dataclass(frozen=True)
class Verdict:
    """What the check of a results folder found.

    Attributes:
        folder: the folder.
        sound: number of sound files by kind.
        bare: number of those without a checksum, as versions before 0.3 wrote them.
        damaged: a line for each file that fails its checks, or contradicts another.
        foreign: what no run writes; it is not read.
    """

    folder: str
    sound: dict[str, int]
    bare: int
    damaged: tuple[str, ...]
    foreign: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the fields in JSON's types."""
        return asdict(self)


def verify(path: Path, on_file: Callable[[Path], None] = lambda _: None) -> Verdict:
    """Read every file of a results folder and check it; changes nothing.

    Args:
        path: the folder.
        on_file: called with each file before it is read.

    Raises:
        UserError: not a results folder.
    """
    folder = ResultsFolder(path)
    sound: dict[str, int] = {}
    damaged: list[str] = []
    cells: list[str] = []
    bare = 0
    for kind, file in files(path):
        on_file(file)
        try:
            bare += not check(folder, kind, file)
        except UserError as error:
            damaged.append(str(error))
            continue
        sound[kind] = sound.get(kind, 0) + 1
        if kind == "cells":
            cells.append(file.stem)
    damaged += _contradictions(folder, cells)
    others = tuple(str(one) for one in foreign(path))
    return Verdict(str(path), sound, bare, tuple(damaged), others)


def _contradictions(folder: ResultsFolder, cells: Collection[str]) -> list[str]:
    """Return a line for each stored poison whose pixels are not those of its records.

    Args:
        folder: the folder.
        cells: keys of its sound records.
    """
    pixels: dict[str, str] = {}
    lines = []
    for record in folder.sound_records(cells):
        key, digest = record.poison["key"], record.poison["sha256"]
        if key not in pixels:
            try:
                stored = folder.poison(key)
            except UserError:  # named as damaged
                stored = None
            pixels[key] = stored[1]["sha256"] if stored else ""
        if pixels[key] not in ("", digest):
            lines.append(
                f"{folder.poison_path(key)} has other pixels than those that record "
                f"{record.key} was trained on"
            )
    return lines
