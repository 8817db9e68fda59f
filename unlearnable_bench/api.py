"""Functions for notebooks: plan, run, load, report."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from unlearnable_bench import notebook
from unlearnable_bench.errors import unknown
from unlearnable_bench.exporting.content import What
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.options import Setting
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.protecting.pictures import SUFFIXES
from unlearnable_bench.protecting.protect import CHECKED, DEFAULT_METHOD, Job, Protected
from unlearnable_bench.protecting.protect import protect as protect_folder
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.frame import load_records
from unlearnable_bench.results.rendering import render
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import export as exporting
from unlearnable_bench.running.environment import pick_device
from unlearnable_bench.running.executor import OnDone, Summary, execute
from unlearnable_bench.running.stall import Stall
from unlearnable_bench.running.threads import use_threads

__all__ = ["export", "load_records", "make_plan", "protect", "render", "run"]


def run(
    plan: Plan,
    out: Path | str,
    *,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    on_cell: OnDone = lambda _item, _result: None,
    pack: int | None = None,
    threads: int | None = None,
    command: str | None = None,
    only: Collection[str] | None = None,
    stall: Stall | None = None,
    keep_learners: bool = False,
) -> Summary:
    """Run a plan: compute the cells that the results folder does not have yet.

    Several threads and processes may run on one folder; threads of one process use a GPU in turn.
    Damaged files are moved into a folder `damaged` next to them and made again; each is a warning
    of the logger `unlearnable_bench.storage.damage`.

    Args:
        plan: from `make_plan`.
        out: the results folder, made if it does not exist.
        device: `cpu`, `cuda`, `cuda:1`; None: CUDA if available.
        progress: display of the loops; None: one line that is updated in place in a notebook,
            otherwise no display.
        on_cell: called with each finished cell and its record, or probe and measurement.
        pack: number of cells trained at the same time, each in its own thread and, on a GPU, its
            own stream; None: two on a GPU, one on the CPU.
        threads: number of threads on the CPU, for the whole process, on which results there
            depend in the last digits; None: torch's, at most the cores that quotas allow.
        command: the command line that makes this plan, stored with it.
        only: keys of the cells to compute, such as those that failed; None: all.
        stall: when to end cells that hang; None: never.
        keep_learners: write the weights of each trained learner to `learners/KEY.safetensors` of
            the folder.

    Raises:
        UserError: a folder, device or number of threads that cannot be used, another default type
            of torch than float32, or a folder that is moved meanwhile.
    """
    use_threads(threads)
    where = device if isinstance(device, torch.device) else pick_device(device)
    folder = open_folder(plan, out, command)
    line = None if progress else notebook.line()
    summary = execute(
        plan,
        folder,
        where,
        progress or line,
        on_cell,
        pack,
        only=only,
        stall=stall,
        keep_learners=keep_learners,
    )
    if line:
        line.show(str(summary))
    return summary


def open_folder(plan: Plan, out: Path | str, command: str | None = None) -> ResultsFolder:
    """Open a results folder, made if it does not exist, and store the plan in it.

    Args:
        plan: the plan.
        out: the folder.
        command: the command line that makes this plan.
    """
    folder = ResultsFolder(Path(out), create=True)
    noted: dict[str, Any] = {
        "key": plan.key,
        "cells": [cell.key for cell in plan.cells],
        "labels": [cell.labels for cell in plan.cells],
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
    }
    if plan.probes:
        noted["measurements"] = {probe.key: probe.labels for probe in plan.probes}
    folder.write_plan(plan.key, noted if command is None else noted | {"command": command})
    return folder


def export(
    plan: Plan,
    out: Path | str,
    into: Path | str,
    *,
    form: str = "npz",
    what: What = "images",
    device: str | torch.device | None = None,
) -> list[Path]:
    """Export the poisoned training sets of a plan, e.g. to purify them elsewhere.

    Args:
        plan: from `make_plan`; its clean images are left out.
        out: the results folder, which has the poisons or gets them.
        into: folder of the exports, made if it does not exist.
        form: `folder`, `npz`, `safetensors`, `hf` or `webdataset`, as `ubench export --to`.
        what: `images`, or `noise` for `npz` and `safetensors`.
        device: as for `run`.

    Returns:
        A folder for each poison and protected share, with the data, `card.json` and `README.md`.
        For `npz`, `images.npz` in it holds `images`, uint8 [N, H, W, 3] in the order of the data
        set, `labels`, `index`, `protected`, `class_names`, and `sha256` of the images.

    Raises:
        UserError: before any work, an unknown format or content, noise in a format of pictures,
            or a file in place of the folder.
    """
    exporting.check(Path(into), form, what)
    where = device if isinstance(device, torch.device) else pick_device(device)
    folder = ResultsFolder(Path(out), create=True)
    return exporting.export(plan, folder, where, Path(into), form, what)


def protect(
    folder: Path | str,
    out: Path | str,
    *,
    method: str | None = None,
    strength: Radius | str = "8/255",
    labels: Path | str | None = None,
    person: bool = False,
    others: Path | str | None = None,
    size: int = 32,
    form: str = "png",
    quality: int = 95,
    keep_metadata: bool = False,
    check: bool = True,
    learners: Sequence[str] = (),
    seed: int = 0,
    settings: Mapping[str, Setting] = {},
    device: str | torch.device | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _text: None,
    on_cell: OnDone = lambda _item, _result: None,
) -> Protected:
    """Write protected copies of a folder of pictures, check them and write a report.

    An interrupted call resumes when it is repeated.

    Args:
        folder: class folders of pictures, or any folder with `labels` or `person`. Only read.
        out: folder of the protected pictures; the report is in `OUT-report` next to it.
        method: an attack with an L-infinity radius; None: `class-tiles`, which needs no network.
        strength: largest change of a value.
        labels: CSV file with the columns file,label.
        person: all pictures show one person or thing; generated textures are the other classes.
        others: class folders of other people, which are the other classes instead. Only read.
        size: working size in pixels, at which the noise is made.
        form: `png`, `webp` (lossless) or `jpeg`, which loses a part of the protection.
        quality: of JPEG, 1 to 100.
        keep_metadata: keep EXIF and XMP.
        check: train learners on the originals and on the protected pictures.
        learners: learners of the check; empty: `small-cnn` and `resnet8`.
        seed: seed of the noise and of the check.
        settings: options of the attack, such as `{"em.variant": "classwise"}`.
        device: as for `run`.
        threads: as for `run`.
        progress: as for `run`.
        say: called with a line about each step.
        on_cell: called with each trained learner of the check, and its record.

    Returns:
        The numbers of pictures, their distance from the originals, and the accuracies.

    Raises:
        UserError: pictures, labels, folders or a method that cannot be used.
    """
    if form not in SUFFIXES:
        raise unknown("format", form, SUFFIXES)
    use_threads(threads)
    where = device if isinstance(device, torch.device) else pick_device(device)
    job = Job(
        root=Path(folder),
        out=Path(out),
        labels=None if labels is None else Path(labels),
        person=person,
        others=None if others is None else Path(others),
        method=method or DEFAULT_METHOD,
        strength=strength if isinstance(strength, Radius) else Radius(strength),
        settings=settings,
        size=size,
        form=form,
        quality=quality,
        keep_metadata=keep_metadata,
        seed=seed,
        checked=(tuple(learners) or CHECKED) if check else (),
    )
    return protect_folder(job, where, progress=progress, say=say, on_cell=on_cell)
