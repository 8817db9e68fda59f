"""What a notebook imports: plan, run, load, report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from unlearnable_bench import registry
from unlearnable_bench.environment import pick_device
from unlearnable_bench.errors import UserError, blaming
from unlearnable_bench.executor import Summary, execute
from unlearnable_bench.grid import make_plan
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.plan import Cell, Plan
from unlearnable_bench.results.frame import load_records
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.store import ResultsFolder

__all__ = ["load_records", "make_plan", "render", "run"]


def run(
    plan: Plan,
    out: Path | str,
    *,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    on_cell: Callable[[Cell, Record], None] = lambda _cell, _record: None,
    pack: int | None = None,
) -> Summary:
    """Compute the cells of a plan that a results folder lacks, and note the plan there.

    Args:
        plan: from `make_plan`.
        out: the results folder; made where it does not exist.
        device: `cpu`, `cuda`, `cuda:1`; None: CUDA where there is one.
        progress: where loops are shown; None: nowhere.
        on_cell: called with each cell as it is finished.
        pack: cells at once, each in a thread and, on a GPU, on a stream of its own;
            None: two on a GPU, one on the CPU.

    Raises:
        UserError: an unusable folder or device, or a damaged file.
    """
    where = device if isinstance(device, torch.device) else pick_device(device)
    folder = ResultsFolder(Path(out), create=True)
    folder.write_plan(plan.key, {"cells": [cell.key for cell in plan.cells]})
    return execute(plan, folder, where, progress, on_cell, pack)


def render(frame: pd.DataFrame, report: str, /, **settings: str) -> str:
    """Return a report of the cells in a frame.

    Args:
        frame: from `load_records`.
        report: name of a report format.
        settings: options of the report.

    Raises:
        UserError: no such format or option, or nothing to report.
    """
    chosen = registry.reports.choose(report, settings)
    if frame.empty:
        raise UserError("there is no finished cell to report; run `ubench run` first")
    with blaming(f"report format {report!r}"):
        text: Any = chosen.plugin.render(frame)
    if not isinstance(text, str):
        kind = type(text).__name__
        raise UserError(f"report format {report!r} renders {kind} instead of text")
    return text
