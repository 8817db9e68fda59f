"""Poisoned training sets of a results folder, for programs outside of this package."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlearnable_bench.errors import UserError
from unlearnable_bench.exporting.card import read_card
from unlearnable_bench.exporting.content import PoisonedSet, What, content_of
from unlearnable_bench.exporting.formats import format_of
from unlearnable_bench.exporting.reading import check_export, is_export
from unlearnable_bench.exporting.writing import check_folder, write
from unlearnable_bench.harness.progress import Progress, Silent
from unlearnable_bench.identity import as_json
from unlearnable_bench.images import Pixels
from unlearnable_bench.planning.plan import Cell, Plan
from unlearnable_bench.results.command import recipe_of, seeds_of
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.finished import is_done
from unlearnable_bench.running.worker import Worker
from unlearnable_bench.stop import Stop
from unlearnable_bench.storage.damage import DamagedError, set_aside

_PAPER = re.compile(r"\[[^\]]+\]\((https?://(?:arxiv|proceedings|openreview|doi|dl)\.[^)]+)\)")


def check(into: Path, form: str = "npz", what: str = "images") -> None:
    """Refuse what `export` cannot write, before any work.

    Args:
        into: folder of the exports.
        form: format.
        what: content.

    Raises:
        UserError: an unknown format or content, noise in a format of pictures, or a place for no
            folder.
    """
    format_of(form, content_of(what))
    check_folder(into)


def export(
    plan: Plan,
    folder: ResultsFolder,
    device: torch.device,
    into: Path,
    form: str = "npz",
    what: What = "images",
) -> list[Path]:
    """Export the poisoned training sets of a plan, one for each poison and protected share.

    Args:
        plan: the plan; its clean images are left out.
        folder: the results folder, which has the poisons or gets them.
        device: device on which a missing poison is generated.
        into: folder of the exports. One that is there already, whole, is not written again, since
            the hash of its images is part of its name; a damaged one is moved into `damaged`.
        form: format, `npz` for example.
        what: `images` or `noise`.

    Returns:
        The folders of the exports.
    """
    worker = _worker(folder, device)
    written = []
    for cell in _exports(plan).values():
        found = poisoned_set(cell, *worker.poison(cell.poison))
        place = into / f"{found.name}-{found.sha256[:8]}"
        if not (is_export(place) and _holds(place, form, what) and _is_whole(place)):
            write(found, place, form, what)
        written.append(place)
    return written


def finished_part(plan: Plan, folder: ResultsFolder) -> tuple[Plan, list[str]]:
    """Return a plan of the finished cells, and a cell for each export that has none of them.

    Args:
        plan: the plan.
        folder: the results folder.

    Returns:
        The plan, whose poisons can be exported, and the names of the cells.
    """
    done = replace(plan, cells=tuple(cell for cell in plan.cells if is_done(folder, cell)))
    there = _exports(done)
    return done, [cell.name for key, cell in _exports(plan).items() if key not in there]


def poison_as_recorded(
    cell: Cell,
    folder: ResultsFolder,
    recorded: Mapping[str, Any],
    device: torch.device,
    progress: Progress | None = None,
) -> tuple[Pixels, dict[str, Any]]:
    """Return the poison that a record names: as stored, otherwise generated again.

    Args:
        cell: the cell of the record.
        folder: results folder, which is not changed.
        recorded: the record's `poison`, whose hash the pixels must have.
        device: device on which a poison that is not stored is generated.
        progress: display of the loops; None: not shown.

    Raises:
        DamagedError: the stored poison is damaged.
        UserError: it is not the recorded poison, or the generated one is not.
    """
    found = folder.poison(cell.poison.key)
    if found is None:
        with tempfile.TemporaryDirectory(prefix="ubench-") as place:
            other = ResultsFolder(Path(place) / "results", create=True)
            found = _worker(other, device, progress).poison(cell.poison)
        if found[1]["sha256"] != recorded["sha256"]:
            made_on = recorded.get("environment", {}).get("device", "an unknown device")
            raise UserError(
                f"the poison {cell.poison.key} is not stored, and made again here it is another "
                f"one (SHA-256 {found[1]['sha256'][:12]}..., recorded {recorded['sha256'][:12]}...)"
                f"; export it on the machine of the record ({made_on}), with its versions"
            )
    elif found[1]["sha256"] != recorded["sha256"]:
        path = folder.poison_path(cell.poison.key)
        raise DamagedError(path, "it is not the poison of the record")
    return found


def poisoned_set(
    cell: Cell,
    pixels: Pixels,
    metadata: Mapping[str, Any],
    *,
    with_test: bool = False,
    record: str | None = None,
) -> PoisonedSet:
    """Return what a cell is trained on before its defense, with all that its card says.

    Args:
        cell: the cell.
        pixels: its poison, uint8 [N, H, W, 3].
        metadata: of the poison.
        with_test: whether the test images belong to it.
        record: key of the record that is exported.

    Raises:
        UserError: the cell is trained on clean images.
    """
    if _is_clean(cell):
        raise UserError(
            f"{cell.name} is trained on clean images, so there is nothing to export; give the key "
            "of a cell with a method"
        )
    poison, protection, data = cell.poison, cell.protection, cell.poison.data
    chosen = protection.chosen(data.train.labels, poison.seed)
    protected = np.zeros(len(data.train), bool)
    protected[chosen] = True
    images, _ = protection.apply(data.train, pixels, poison.seed)
    plugin = poison.attack.plugin
    labels = cell.labels | {"setting": json.dumps(as_json(cell.identity))}
    facts = {
        "dataset": data.name,
        "dataset_sha256": data.sha256,
        "method": cell.attack_label,
        "summary": type(plugin).summary(),
        "options": as_json(poison.attack.identity()),
        "surrogate": None if plugin.surrogate == "none" else poison.surrogate.label,
        "precision": poison.precision,
        "seed": poison.seed,
        "preset": cell.preset_label,
        "budget": metadata["budget"],
        "quality": metadata.get("quality", {}),
        "protect": {"share": protection.share, "classes": list(protection.classes)},
        "poison": poison.key,
        "poison_sha256": metadata["sha256"],
        "record": record,
        "command": f"{recipe_of(labels).command} {seeds_of(cell.labels)}",
        "environment": metadata.get("environment", {}),
        "papers": list(dict.fromkeys(_PAPER.findall(type(plugin).__doc__ or ""))),
    }
    method = re.sub(r"[^A-Za-z0-9.=-]+", "-", cell.attack_label).strip("-")
    return PoisonedSet(
        f"{method}-seed-{poison.seed}",
        data.train,
        images.images,
        data.class_names,
        protected,
        facts,
        data.test if with_test else None,
    )


def _exports(plan: Plan) -> dict[tuple[str, str], Cell]:
    """Return a cell for each poison and protected share of a plan."""
    return {
        (cell.poison.key, str(cell.protection.identity())): cell
        for cell in plan.cells
        if not _is_clean(cell)
    }


def _holds(place: Path, form: str, what: What) -> bool:
    card = read_card(place)
    return (card["to"], card["what"]) == (form, what)


def _is_whole(place: Path) -> bool:
    """Return whether the files of an export match its card; otherwise it is set aside."""
    try:
        check_export(place)
    except UserError:
        set_aside(place, "its files do not match card.json", "it is exported again")
        return False
    return True


def _is_clean(cell: Cell) -> bool:
    return cell.poison.attack.name == "clean" or cell.protection.complement_only


def _worker(
    folder: ResultsFolder, device: torch.device, progress: Progress | None = None
) -> Worker:
    return Worker(folder, device, progress or Silent(), Stop())
