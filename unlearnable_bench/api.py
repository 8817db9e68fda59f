"""Functions for notebooks: plan, run, load, report."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from unlearnable_bench import notebook
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.results.frame import load_records
from unlearnable_bench.results.rendering import render
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.environment import pick_device
from unlearnable_bench.running.executor import OnDone, Summary, execute
from unlearnable_bench.running.threads import use_threads

__all__ = ["load_records", "make_plan", "render", "run"]


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
) -> Summary:
    """Run a plan: compute the cells that the results folder does not have yet.

    Several threads and processes may run on one folder. Damaged files are moved into a folder
    `damaged` next to them and made again; each is a warning of the logger
    `unlearnable_bench.storage.damage`.

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

    Raises:
        UserError: a folder, device or number of threads that cannot be used, or a folder that is
            moved meanwhile.
    """
    use_threads(threads)
    where = device if isinstance(device, torch.device) else pick_device(device)
    folder = ResultsFolder(Path(out), create=True)
    noted: dict[str, Any] = {
        "cells": [cell.key for cell in plan.cells],
        "labels": [cell.labels for cell in plan.cells],
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
    }
    folder.write_plan(plan.key, noted if command is None else noted | {"command": command})
    line = None if progress else notebook.line()
    summary = execute(plan, folder, where, progress or line, on_cell, pack)
    if line:
        line.show(str(summary))
    return summary
