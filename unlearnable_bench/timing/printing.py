"""Output of `ubench bench`: a table, JSON or a figure."""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._text import printable
from unlearnable_bench.running.environment import describe, device_name, use_fast_path
from unlearnable_bench.screen.terminal import print_grid, say, terminal
from unlearnable_bench.storage.disk import DiskError
from unlearnable_bench.timing.against import Comparison, Sheet, compare, differences, machine_of
from unlearnable_bench.timing.bench import (
    Measurement,
    convolution_ceiling,
    measure,
    precision_of,
)
from unlearnable_bench.timing.growth import FORMATS, Growth, draw, grow
from unlearnable_bench.timing.scales import CPU_SCALE, GPU_SCALE, Scale
from unlearnable_bench.timing.whole_set import SetMeasurement, measure_set

Row = TypeVar("Row")

_LOG = logging.getLogger(__name__)

_BENCH_COLUMNS = (
    "batch", "cells", "ms", "passes/s", "TFLOP/s", "share", "x eager", "warm-up s", "MiB",
)  # fmt: skip
_SET_COLUMNS = ("images", "px", "s", "MB/s", "host MiB", "GPU MiB")
_GROWTH_COLUMNS = ("value", "job", "batch", "ms", "s/epoch", "MiB")


def bench(
    device: torch.device,
    *,
    as_json: bool,
    without: Collection[str] = (),
    against: Path | None = None,
) -> bool:
    """Time every job and print tables or a JSON object.

    Args:
        device: the CPU or one GPU.
        as_json: print JSON instead of tables.
        without: techniques of the fast path to leave out.
        against: output of `ubench bench --json` to compare with; None: no comparison.

    Returns:
        Whether Ctrl-C interrupted it.

    Raises:
        UserError: an unknown technique, a device without a fast path, or a file to compare with
            that is not such an output; this is checked before anything is timed.
    """
    if without and device.type != "cuda":
        raise UserError("--without changes the GPU fast path; add --device cuda")
    other = None if against is None else Sheet.read(against)
    use_fast_path(device, without)
    scale = _bench_scale(device)
    found = _sheet(device, scale) | {"precision": precision_of(device), "without": [*without]}
    if other is not None:
        for text in differences(_read(found | {"measurements": []}).settings, other.settings):
            _LOG.warning(
                "ubench: --against %s: %s, so ratios are not of the code alone", against, text
            )
    ceiling = convolution_ceiling(device)
    lines, interrupted = _collect(lambda show: measure(device, scale, ceiling, show, without))
    rows: list[SetMeasurement] = []
    if not interrupted:
        rows, interrupted = _collect(lambda show: measure_set(device, scale, show), needed=False)
    found |= {"ceiling_tflops": ceiling, "measurements": lines, "whole_set": rows}
    comparison = None if other is None else compare(_read(found), other)
    if as_json:
        compared = {} if comparison is None else {"file": str(against)} | asdict(comparison)
        _print_json(found | ({"against": compared} if compared else {}))
        return interrupted
    _print_measurements(device, scale, ceiling, lines)
    if rows:
        _print_set(rows)
    if comparison is not None and other is not None:
        _print_comparison(comparison, str(against), other)
    return interrupted


def _print_measurements(
    device: torch.device, scale: Scale, ceiling: float, lines: list[Measurement]
) -> None:
    out = _bench_heading(device, scale, f"; one large convolution: {ceiling:.3g} TFLOP/s")
    grid = Grid("job", *_BENCH_COLUMNS, box=SIMPLE)
    for line in lines:
        grid.add_row(
            line.job,
            str(line.batch),
            str(line.cells),
            f"{line.milliseconds:.2f}",
            f"{line.images_per_second:,.0f}",
            f"{line.tflops:.3g}",
            f"{100 * line.share:.0f} %",
            f"{line.eager_ratio:.1f}",
            f"{line.warmup_seconds:.1f}",
            f"{line.peak_memory_mib:,.0f}",
        )
    print_grid(out, grid)


def _print_set(rows: list[SetMeasurement]) -> None:
    grid = Grid("work on a whole set", *_SET_COLUMNS, box=SIMPLE)
    for row in rows:
        grid.add_row(
            row.job,
            f"{row.images:,}",
            str(row.size),
            f"{row.seconds:.3f}",
            f"{row.mb_per_second:,.0f}",
            "" if row.host_memory_mib is None else f"{row.host_memory_mib:,.0f}",
            "" if row.gpu_memory_mib is None else f"{row.gpu_memory_mib:,.0f}",
        )
    print_grid(terminal(), grid)


def _print_comparison(found: Comparison, file: str, other: Sheet) -> None:
    """Print the ratios of this run to a file."""
    out = terminal()
    say(out, f"this run / {file} ({other.machine})")
    grid = Grid("job", "time", "memory", box=SIMPLE)
    for ratio in found.ratios:
        memory = "" if ratio.memory is None else f"{ratio.memory:.2f}"
        grid.add_row(Text(printable(ratio.job)), f"{ratio.time:.3f}", memory)
    if found.ratios:
        print_grid(out, grid)
    else:
        say(out, "no job is in both")
    for where, jobs in ("this run", found.only_here), (file, found.only_there):
        if jobs:
            say(out, f"only in {where}: {'; '.join(jobs)}")


def growth(device: torch.device, *, as_json: bool, figure: Path | None) -> bool:
    """Time steps at several values of each parameter; print a table or a JSON object.

    Returns:
        Whether Ctrl-C interrupted it.

    Raises:
        UserError: a figure that cannot be saved; this is checked before anything is timed.
    """
    if figure and figure.suffix[1:] not in FORMATS:
        raise UserError(f"--figure {figure}: end the name in .png, .pdf or .svg")
    if figure and not figure.absolute().parent.is_dir():
        raise UserError(f"--figure {figure}: no folder {figure.absolute().parent}; make it first")
    if figure and not os.access(figure if figure.exists() else figure.absolute().parent, os.W_OK):
        raise UserError(f"--figure {figure}: no permission to write; choose another place")
    if figure and figure.is_dir():
        raise UserError(f"--figure {figure} is a folder; name a file in it")
    scale = _bench_scale(device)
    rows, interrupted = _collect(lambda show: grow(device, scale, show))
    if as_json:
        _print_json(_sheet(device, scale) | {"growth": rows})
    else:
        _print_growth(device, scale, rows)
    if figure:
        draw(rows, f"{device_name(device)}, {scale.learner}", figure)
    return interrupted


def _print_growth(device: torch.device, scale: Scale, rows: list[Growth]) -> None:
    out = _bench_heading(device, scale, "")
    grid = Grid("parameter", *_GROWTH_COLUMNS, box=SIMPLE)
    for row in rows:
        grid.add_row(
            row.parameter,
            f"{row.value:,}",
            row.job,
            str(row.batch),
            f"{row.milliseconds:.2f}",
            "" if row.seconds_per_epoch is None else f"{row.seconds_per_epoch:.2f}",
            f"{row.peak_memory_mib:,.0f}",
        )
    print_grid(out, grid)


def _collect(
    timed: Callable[[Callable[[str], None]], Iterator[Row]], *, needed: bool = True
) -> tuple[list[Row], bool]:
    """Return the measurements and whether Ctrl-C interrupted; display the current job.

    Args:
        timed: yields the measurements; it gets the function that displays a job.
        needed: whether Ctrl-C before the first measurement, or a full disk, ends the command.
    """
    rows: list[Row] = []
    with terminal(stderr=True).status("") as status:
        try:
            for row in timed(status.update):
                rows.append(row)  # noqa: PERF402 - Ctrl-C must not lose earlier rows
        except DiskError as error:
            if needed:
                raise
            _LOG.warning("ubench: %s; the remaining jobs were not measured", error)
        except KeyboardInterrupt:
            if needed and not rows:
                raise
            status.console.print("interrupted; the remaining jobs were not measured")
            return rows, True
    return rows, False


def _bench_scale(device: torch.device) -> Scale:
    return GPU_SCALE if device.type == "cuda" else CPU_SCALE


def _bench_heading(device: torch.device, scale: Scale, more: str) -> Console:
    """Print device and versions; return the console."""
    out = terminal()
    say(out, machine_of(describe(device)))
    say(out, f"{scale.learner}, 32 px{more}")
    return out


def _sheet(device: torch.device, scale: Scale) -> dict[str, Any]:
    """Return what the JSON object of each measurement has."""
    return {"environment": describe(device), "scale": scale}


def _read(sheet: dict[str, Any]) -> Sheet:
    """Return an object as it is read from a file, whose lists are no tuples."""
    return Sheet.of(json.loads(json.dumps(sheet, default=asdict)))


def _print_json(sheet: dict[str, Any]) -> None:
    print(json.dumps(sheet, default=asdict, indent=1))  # noqa: T201
