"""What the command line shows: the plan, progress, tables, listings."""

import json
import math
import os
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from rich.box import SIMPLE
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table as Grid
from rich.text import Text

from unlearnable_bench import api, registry
from unlearnable_bench.bench import (
    CARD,
    LAPTOP,
    Measurement,
    Scale,
    convolution_ceiling,
    measure,
)
from unlearnable_bench.environment import describe, device_name
from unlearnable_bench.errors import UserError
from unlearnable_bench.executor import Summary, is_done
from unlearnable_bench.growth import FORMATS, Growth, draw, grow
from unlearnable_bench.harness import Harness, input_gradient
from unlearnable_bench.options import OptionInfo
from unlearnable_bench.plan import Cell, Plan, Probe
from unlearnable_bench.presets import load_preset, preset_names
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.comparison import compare, rank_correlation
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.rendering import default_tables, render
from unlearnable_bench.results.robustness import Robustness
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.terminal import Tracker, new_grid, print_grid, print_table, say, terminal

Row = TypeVar("Row")

_BENCH_COLUMNS = (
    "batch", "cells", "ms", "passes/s", "TFLOP/s", "share", "x eager", "warm-up s", "MiB",
)  # fmt: skip
_GROWTH_COLUMNS = ("value", "job", "batch", "ms", "s/epoch", "MiB")


@dataclass(frozen=True)
class Listed:
    """One line of `ubench list`."""

    name: str
    summary: str
    options: list[OptionInfo]


def run(
    plan: Plan,
    folder: Path,
    device: torch.device,
    *,
    chosen_preset: bool,
    dry_run: bool,
    pack: int | None,
    command: str | None = None,
) -> bool:
    """Show the plan, run it with progress, print its tables; return whether a cell failed.

    Args:
        plan: from `make_plan`.
        folder: the results folder.
        device: where to compute.
        chosen_preset: whether the user named the preset.
        dry_run: show the plan only.
        pack: cells trained at once; None: the device's default.
        command: what the user typed, to be noted with the plan.
    """
    out = terminal()
    known = ResultsFolder(folder).path if (folder / "ubench.json").exists() else None
    done = sum(is_done(ResultsFolder(known), item) for item in plan.work) if known else 0
    _show_plan(out, plan, folder, device, done, chosen_preset=chosen_preset, dry_run=dry_run)
    if dry_run:
        return False
    summary = _run_with_bars(out, plan, folder, device, pack, command)
    frame = api.load_records(folder, [cell.key for cell in plan.cells])
    if not frame.empty:
        for table in default_tables(frame):
            print_table(out, table)
    if plan.probes:
        _print_correlations(out, api.load_records(folder))
    say(out, f"{summary.computed} cells computed, {summary.reused} found; records: {folder}/cells")
    again = shlex.join(["ubench", "report", str(folder), "--plan", plan.key, "--format", "latex"])
    say(out, f"next: {again}")
    for failure in summary.failures:
        say(terminal(stderr=True), f"ubench: {failure.cell.name}: {failure.reason}")
    return bool(summary.failures)


def _print_correlations(out: Console, frame: pd.DataFrame) -> None:
    """Print how robustness goes with protection, over all variants of the folder."""
    try:
        text = str(render(frame, "correlation", "markdown"))
    except UserError as error:  # cells failed
        text = f"no correlation: {error}"
    # Its columns line up by blanks, and its format has made every name printable.
    out.print(Text(f"\n{text}"), soft_wrap=True)


def comparison(first: Path, second: Path) -> None:
    """Print the cells that two results folders have in common, and their rank correlation."""
    both = compare(api.load_records(first), api.load_records(second))
    kinds = both.columns.drop(["attack", "first", "second", "differing"])
    # What a method has several of tells its cells apart; the rest is the same, or goes with it.
    telling = kinds[both.groupby("attack")[list(kinds)].nunique().max() > 1]
    grid = new_grid(["method", *telling], [str(first), str(second), "difference"])
    for row in both.to_dict("records"):
        one, other = row["first"], row["second"]
        texts = (Text(printable(str(row[name]))) for name in ("attack", *telling))
        grid.add_row(*texts, f"{one:.1f}", f"{other:.1f}", f"{other - one:+.1f}")
    out = terminal()
    print_grid(out, grid)
    correlation = rank_correlation(both)
    ranks = (
        "no ranks" if math.isnan(correlation) else f"Spearman's rank correlation {correlation:.3f}"
    )
    say(out, f"clean test accuracy in percent; {ranks} over {len(both)} cells")
    differing = sorted({name for names in both["differing"] for name in names})
    if differing:
        say(out, f"settings differ in {', '.join(differing)}")


def bench(device: torch.device, *, as_json: bool) -> bool:
    """Time every job and print the table, or one JSON object; tell whether Ctrl-C ended it."""
    scale = _bench_scale(device)
    ceiling = convolution_ceiling(device)
    lines, interrupted = _collect(lambda show: measure(device, scale, ceiling, show))
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
    """Time steps along several parameters and print the table, or one JSON object.

    Returns:
        Whether Ctrl-C ended it.

    Raises:
        UserError: a figure that cannot be saved; found before anything is timed.
    """
    if figure and figure.suffix[1:] not in FORMATS:
        raise UserError(f"--figure {figure}: the name must end in .png, .pdf or .svg")
    if figure and not figure.absolute().parent.is_dir():
        raise UserError(f"--figure {figure}: there is no folder {figure.absolute().parent}")
    if figure and not os.access(figure if figure.exists() else figure.absolute().parent, os.W_OK):
        raise UserError(f"--figure {figure}: no permission to write there")
    if figure and figure.is_dir():
        raise UserError(f"--figure {figure}: is a folder")
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


def listing(kind: str) -> list[Listed]:
    """Return every preset, or every plugin of a kind; one that fails on import says so."""
    if kind == "presets":
        return [Listed(name, load_preset(name).summary, []) for name in preset_names()]
    entries = []
    for name in registry.REGISTRIES[kind].names():
        try:
            plugin = registry.REGISTRIES[kind].get(name)
            entries.append(Listed(name, plugin.summary(), plugin.options()))
        except UserError as error:
            entries.append(Listed(name, f"unusable: {error}", []))
    return entries


def print_listing(entries: list[Listed], *, verbose: bool) -> None:
    """Print a line each, and with `verbose` a line for each option."""
    out = terminal()
    names = [printable(entry.name) for entry in entries]
    width = max(map(cell_len, names))
    for name, entry in zip(names, entries, strict=True):
        say(out, entry.summary, prefix=set_cell_size(name, width + 2))
        for option in entry.options if verbose else []:
            default = option.default or "empty"
            meaning = f"{option.name} ({option.type}, default {default}): {option.summary}"
            say(out, meaning, prefix=" " * (width + 4))


def _collect(timed: Callable[[Callable[[str], None]], Iterator[Row]]) -> tuple[list[Row], bool]:
    """Return what was measured, and whether Ctrl-C ended it; show what is being timed."""
    rows: list[Row] = []
    with terminal(stderr=True).status("") as status:
        try:
            for row in timed(status.update):
                rows.append(row)  # noqa: PERF402 - what is there when Ctrl-C arrives stays
        except KeyboardInterrupt:
            if not rows:
                raise
            status.console.print("interrupted: the rest was not measured")
            return rows, True
    return rows, False


def _bench_scale(device: torch.device) -> Scale:
    return CARD if device.type == "cuda" else LAPTOP


def _bench_heading(device: torch.device, scale: Scale, more: str) -> Console:
    """Print what was measured on and with; return where."""
    environment = describe(device)
    versions = ", ".join(f"{name} {v}" for name, v in environment["packages"].items())
    driver = f"driver {environment['driver']}, " if environment["driver"] else ""
    out = terminal()
    say(out, f"{environment['device']}, {driver}{versions}")
    say(out, f"{scale.learner}, 32 px{more}")
    return out


def _print_sheet(device: torch.device, scale: Scale, **found: Any) -> None:
    """Print one JSON object: what was found, on what, and with what."""
    sheet = {"environment": describe(device), "scale": scale} | found
    print(json.dumps(sheet, default=asdict, indent=1))  # noqa: T201


def _show_plan(
    out: Console,
    plan: Plan,
    folder: Path,
    device: torch.device,
    done: int,
    *,
    chosen_preset: bool,
    dry_run: bool,
) -> None:
    data = plan.data
    why = "" if chosen_preset else f" (default on {device.type}; --preset chooses another)"
    count = len(plan.cells)
    probes = f" and {len(plan.probes)} measurements of robustness" if plan.probes else ""
    lines = {
        "preset": f"{plan.preset_label}{why}",
        "data": f"{data.name}: {len(data.train)} training and {len(data.test)} test images, "
        f"{len(data.class_names)} classes, {data.train.size} px"
        + (f", seen at {data.test.size}" if data.test.size != data.train.size else ""),
        "learner": ", ".join(dict.fromkeys(c.learner.label for c in plan.cells))
        + f"; surrogate {', '.join(dict.fromkeys(c.poison.surrogate.label for c in plan.cells))}"
        f"; {plan.cells[0].poison.precision}",
        "device": device_name(device),
        "cells": f"{count}{probes}: {', '.join(dict.fromkeys(c.attack_label for c in plan.cells))}"
        f"{_other_axes(plan)}"
        f" x rho_a {', '.join(dict.fromkeys(str(c.rho_a) for c in plan.cells))}"
        f" x seeds {', '.join(dict.fromkeys(str(c.poison.seed) for c in plan.cells))}",
        "results": f"{folder} ({done} of {len(plan.work)} there already)",
        "estimate": "nothing to compute"
        if done == len(plan.work)
        else _estimate(plan, device, dry_run=dry_run),
    }
    for name, text in lines.items():
        say(out, text, prefix=f"{name:9} ")


def _other_axes(plan: Plan) -> str:
    """Return ` x defenses ...` and ` x protected ...` where the plan has any."""
    defenses = dict.fromkeys(cell.defense.label for cell in plan.cells)
    shares = dict.fromkeys(f"{100 * cell.protection.share:g} %" for cell in plan.cells)
    text = "" if [*defenses] == ["none"] else f" x defenses {', '.join(defenses)}"
    return text if [*shares] == ["100 %"] else f"{text} x protected {', '.join(shares)}"


def _estimate(plan: Plan, device: torch.device, *, dry_run: bool) -> str:
    """Time the first learner's input gradient, in the plan's precision, and multiply.

    On a GPU in a dry run alone: to compile takes longer than many a plan, and what is not
    compiled takes ten times as long as the run's.
    """
    passes = plan.image_passes()
    if passes is None:
        return "unknown (an attack does not say what it costs)"
    cell, on_gpu = plan.cells[0], device.type == "cuda"
    if on_gpu and not dry_run:
        return f"{passes:.2g} image passes for the whole plan; --dry-run times them"
    count, size = 256 if on_gpu else 64, plan.data.test.size
    learner, precision = cell.learner.plugin, cell.poison.precision
    # As in the run.
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.deterministic = True
    harness = Harness(device, 0, precision, plan.data.transform, learner)
    model = harness.network(plan.data.train)
    x = torch.rand(count, 3, size, size, dtype=harness.dtype, device=device)
    y = torch.zeros(count, dtype=torch.int64, device=device)
    gradient: Callable[..., Any] = partial(input_gradient, model)
    warm = 1
    seconds = []
    if on_gpu:
        step = harness.capture(gradient)
        gradient, warm = step, step.WARM_CALLS + 1
    for _ in range(warm + 3):
        started = time.perf_counter()
        gradient(x, y).sum().item()
        seconds.append(time.perf_counter() - started)
    total = passes / count * min(seconds[warm:])
    text = f"{total / 60:.0f} min" if total > 90 else f"{total:.0f} s"
    return f"about {text} for the whole plan ({passes:.2g} image passes)"


def _run_with_bars(
    out: Console,
    plan: Plan,
    folder: Path,
    device: torch.device,
    pack: int | None,
    command: str | None,
) -> Summary:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=out, transient=True) as bars:

        def report(item: Cell | Probe, result: Record | Robustness) -> None:
            seconds = sum(result.seconds.values())
            say(out, f"done: {item.name}: {_figure_of(result)} in {seconds:.0f} s")

        return api.run(
            plan,
            folder,
            device=device,
            progress=Tracker(bars),
            on_cell=report,
            pack=pack,
            command=command,
        )


def _figure_of(result: Record | Robustness) -> str:
    if isinstance(result, Record):
        return f"{result.test_accuracy:.1f} %"
    return f"loss {result.surrogate_loss:.3g} (surrogate), {result.noise_loss:.3g} (reference)"
