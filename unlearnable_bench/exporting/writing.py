"""An export on disk: checked before, complete or absent."""

import json
import shutil
from pathlib import Path

from unlearnable_bench.errors import UserError
from unlearnable_bench.exporting.card import CARD, README, card_of, readme_of
from unlearnable_bench.exporting.content import PoisonedSet, What
from unlearnable_bench.exporting.formats import format_of
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.storage.disk import bytes_text
from unlearnable_bench.storage.files import scratch


def check_folder(into: Path) -> None:
    """Refuse a place that cannot be a folder of its own.

    Raises:
        UserError: it is a file or below one, an export, or within an export.
    """
    places = (into, *into.absolute().parents)
    there = next(one for one in places if one.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file; choose a new folder")
    outer = next((one for one in places if (one / CARD).is_file()), None)
    if outer:
        raise UserError(
            f"{outer} is an export, whose card describes other files; choose a folder outside of it"
        )


def check_place(into: Path) -> None:
    """Refuse a place for an export that holds something.

    Raises:
        UserError: it is a folder that is not empty, or `check_folder` refuses it.
    """
    if into.is_dir() and any(into.iterdir()):
        raise UserError(f"{into} is not empty; choose another folder with --out, or remove it")
    check_folder(into)


def write(
    poisoned: PoisonedSet,
    into: Path,
    form: str = "npz",
    what: What = "images",
    progress: Progress | None = None,
) -> Path:
    """Write a poisoned set, or its noise, with a card, into a new folder.

    Args:
        poisoned: the poisoned set.
        into: the folder, new or empty; it appears when all is written.
        form: name of the format (`FORMATS`).
        what: `images` or `noise`.
        progress: display of the loop over pictures.

    Returns:
        The folder.

    Raises:
        UserError: an unknown format, a folder that is not empty, or too little space.
        DiskError: the disk takes no more files.
    """
    chosen = format_of(form, what)
    check_place(into)
    needed = chosen.size(poisoned, what)
    there = next(one for one in into.absolute().parents if one.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"{into} may take {bytes_text(needed)}, and {bytes_text(free)} are free; make room, or "
            "choose a folder on another disk with --out"
        )
    into.parent.mkdir(parents=True, exist_ok=True)
    with scratch(into.absolute().parent, into.name, needed) as temporary:
        made = temporary / "made"
        made.mkdir()
        chosen.write(poisoned, what, made, progress or Silent())
        card = card_of(poisoned, form, what)
        (made / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        (made / README).write_text(readme_of(card), encoding="utf-8")
        try:
            made.rename(into)
        except OSError:
            check_place(into)  # filled by another process meanwhile
            raise
    return into
