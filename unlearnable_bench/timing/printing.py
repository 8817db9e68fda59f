"""Output of `ubench bench`: a table, JSON or a figure."""

import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Grid

from unlearnable_bench.errors import UserError
from unlearnable_bench.running.environment import describe, device_name, use_fast_path
from unlearnable_bench.screen.terminal import print_grid, say, terminal
from unlearnable_bench.timing.bench import (
    CPU_SCALE,
    GPU_SCALE,
    Measurement,
    Scale,
    convolution_ceiling,
    measure,
)
from unlearnable_bench.timing.growth import FORMATS, Growth, draw, grow

Row = TypeVar("Row")

_BENCH_COLUMNS = (
    "batch", "cells", "ms", "passes/s", "TFLOP/s", "share", "x eager", "warm-up s", "MiB",
)  # fmt: skip
_GROWTH_COLUMNS = ("value", "job", "batch", "ms", "s/epoch", "MiB")


def bench(device: torch.device, *, as_json: bool, without: Collection[str] = ()) -> bool:
    """Time every job and print a table or a JSON object.

    Args:
        device: the CPU or one GPU.
        as_json: print JSON instead of a table.
        without: techniques of the fast path to leave out.

    Returns:
        Whether Ctrl-C interrupted it.

    Raises:
        UserError: an unknown technique, or a device without a fast path.
    """
    if without and device.type != "cuda":
        raise UserError("--without changes the GPU fast path; add --device cuda")
    use_fast_path(device, without)
    scale = _bench_scale(device)
    ceiling = convolution_ceiling(device)
    lines, interrupted = _collect(lambda show: measure(device, scale, ceiling, show, without))
    if as_json:
        _print_sheet(device, scale, ceiling_tflops=ceiling, measurements=lines)
    else:
        _print_measurements(device, scale, ceiling, lines)
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
        _print_sheet(device, scale, growth=rows)
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


def _collect(timed: Callable[[Callable[[str], None]], Iterator[Row]]) -> tuple[list[Row], bool]:
    """Return the measurements and whether Ctrl-C interrupted; display the current job."""
    rows: list[Row] = []
    with terminal(stderr=True).status("") as status:
        try:
            for row in timed(status.update):
                rows.append(row)  # noqa: PERF402 - Ctrl-C must not lose earlier rows
        except KeyboardInterrupt:
            if not rows:
                raise
            status.console.print("interrupted; the remaining jobs were not measured")
            return rows, True
    return rows, False


def _bench_scale(device: torch.device) -> Scale:
    return GPU_SCALE if device.type == "cuda" else CPU_SCALE


def _bench_heading(device: torch.device, scale: Scale, more: str) -> Console:
    """Print device and versions; return the console."""
    environment = describe(device)
    versions = ", ".join(f"{name} {v}" for name, v in environment["packages"].items())
    driver = f"driver {environment['driver']}, " if environment["driver"] else ""
    out = terminal()
    say(out, f"{environment['device']}, {driver}{versions}")
    say(out, f"{scale.learner}, 32 px{more}")
    return out


def _print_sheet(device: torch.device, scale: Scale, **found: Any) -> None:
    """Print one JSON object: measurements, environment and scale."""
    sheet = {"environment": describe(device), "scale": scale} | found
    print(json.dumps(sheet, default=asdict, indent=1))  # noqa: T201
