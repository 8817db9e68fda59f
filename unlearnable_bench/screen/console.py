"""Print the plan, progress, tables and comparisons on the terminal."""

import math
import shlex
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.text import Text

from unlearnable_bench import api, traces
from unlearnable_bench.errors import UserError
from unlearnable_bench.planning.plan import Cell, Plan, Probe
from unlearnable_bench.radius import Radius
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results import marker
from unlearnable_bench.results.comparison import compare, rank_correlation
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.rendering import default_tables, render
from unlearnable_bench.results.robustness import Robustness
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.environment import device_name
from unlearnable_bench.running.executor import Summary, check_names, is_done
from unlearnable_bench.running.threads import use_threads
from unlearnable_bench.screen.estimate import check_learners, estimate
from unlearnable_bench.screen.pace import Pace
from unlearnable_bench.screen.terminal import (
    Log,
    Tracker,
    bars,
    new_grid,
    print_grid,
    print_table,
    say,
    terminal,
)


def run(
    plan: Plan,
    folder: Path,
    device: torch.device,
    *,
    chosen_preset: bool,
    dry_run: bool,
    pack: int | None,
    threads: int | None = None,
    command: str | None = None,
) -> bool:
    """Print the plan, run it with progress bars, print its tables.

    Returns whether a cell failed.

    Args:
        plan: from `make_plan`.
        folder: the results folder.
        device: where to compute.
        chosen_preset: whether the user named the preset.
        dry_run: print the plan without running it.
        pack: cells trained at once; None: the device's default.
        threads: number of threads on the CPU; None: the default.
        command: the command line, stored with the plan.
    """
    check_names(plan)
    use_threads(threads)
    out, pace = terminal(), Pace(plan, pack or 1)
    known = ResultsFolder(folder) if marker.is_marked(folder) else None
    done = sum(is_done(known, item) for item in plan.work) if known else 0
    _show_plan(out, plan, folder, device, done, pace, chosen_preset=chosen_preset, dry_run=dry_run)
    if dry_run:
        return False
    errors = terminal(stderr=True)
    summary = _run_with_progress(out, plan, folder, device, pack, threads, command, pace)
    frame = api.load_records(folder, [cell.key for cell in plan.cells])
    if not frame.empty:
        for table in default_tables(frame):
            print_table(out, table)
    if plan.probes:
        _print_correlations(out, api.load_records(folder))
    computed = f"{summary.computed} cell{'' if summary.computed == 1 else 's'} computed"
    say(out, f"{computed}, {summary.reused} reused; records: {folder}/cells")
    if not frame.empty:
        again = ["ubench", "report", str(folder), "--plan", plan.key, "--format", "latex"]
        say(out, f"next: {shlex.join(again)}")
    for failure in summary.failures:
        where = f"; traceback: {folder}/failures/{failure.cell.key}.json" if failure.trace else ""
        if traces.is_shown():
            errors.print(Text(failure.trace), soft_wrap=True)
        say(errors, f"ubench: {failure.cell.name}: {failure.reason}{where}")
    return bool(summary.failures)


def _print_correlations(out: Console, frame: pd.DataFrame) -> None:
    """Print the correlations of robustness with protection, over all variants of the folder."""
    try:
        text = str(render(frame, "correlation", "markdown"))
    except UserError as error:  # cells failed
        text = f"no correlation: {error}"
    # Spaces align the columns, and the format has made every name printable.
    out.print(Text(f"\n{text}"), soft_wrap=True)


def comparison(first: Path, second: Path) -> None:
    """Print the cells that two results folders have in common, and their rank correlation."""
    both = compare(api.load_records(first), api.load_records(second))
    kinds = both.columns.drop(["attack", "first", "second", "differing"])
    # Only columns in which the cells of one method differ.
    varying = kinds[both.groupby("attack")[list(kinds)].nunique().max() > 1]
    grid = new_grid(["method", *varying], [str(first), str(second), "difference"])
    for row in both.to_dict("records"):
        one, other = row["first"], row["second"]
        texts = (Text(printable(str(row[name]))) for name in ("attack", *varying))
        grid.add_row(*texts, f"{one:.1f}", f"{other:.1f}", f"{other - one:+.1f}")
    out = terminal()
    print_grid(out, grid)
    correlation = rank_correlation(both)
    ranks = (
        "no rank correlation: all accuracies of a folder are equal"
        if math.isnan(correlation)
        else f"Spearman's rank correlation {correlation:.3f}"
    )
    say(out, f"Clean test accuracy (%); {ranks} ({count(len(both), 'cell')}).")
    differing = sorted({name for names in both["differing"] for name in names})
    if differing:
        say(out, f"Settings that differ: {', '.join(differing)}.")


def _show_plan(
    out: Console,
    plan: Plan,
    folder: Path,
    device: torch.device,
    done: int,
    pace: Pace,
    *,
    chosen_preset: bool,
    dry_run: bool,
) -> None:
    data = plan.data
    why = "" if chosen_preset else f" (default on {device.type}; change it with --preset)"
    size = f"{len(plan.cells)}"
    if plan.probes:
        size += f" and {count(len(plan.probes), 'measurement')} of robustness"
    lines = {
        "preset": f"{plan.preset_label}{why}",
        "data": f"{data.name}: {len(data.train)} training and {len(data.test)} test images, "
        f"{len(data.class_names)} classes, {data.train.size} px"
        + (f", cropped to {data.test.size} px" if data.test.size != data.train.size else ""),
        "learner": ", ".join(dict.fromkeys(c.learner.label for c in plan.cells))
        + f"; surrogate {', '.join(dict.fromkeys(c.poison.surrogate.label for c in plan.cells))}"
        f"; precision {plan.cells[0].poison.precision}",
        "noise": _noises(plan),
        "device": device_name(device),
        "cells": f"{size}: {', '.join(dict.fromkeys(c.method for c in plan.cells))}"
        f"{_other_axes(plan)}"
        f" x training at rho_a {', '.join(dict.fromkeys(str(c.rho_a) for c in plan.cells))}"
        f" x seeds {', '.join(dict.fromkeys(str(c.poison.seed) for c in plan.cells))}",
        "results": f"{folder} ({done} of {len(plan.work)} already finished)",
        "estimate": "nothing to compute",
    }
    if done < len(plan.work):
        check_learners(plan, device)
        lines["estimate"] = estimate(plan, device, dry_run=dry_run, pace=pace)
    for name, text in lines.items():
        say(out, text, prefix=f"{name:9} ")
        if name == "noise":
            for remark in plan.remarks:
                say(out, remark, prefix=f"{'':9} ")


def _noises(plan: Plan) -> str:
    """Return each method with the radii of its own options, which training does not change."""
    parts: dict[str, None] = {}
    for cell in plan.cells:
        used = cell.poison.attack.plugin.option_values()
        # Step sizes are radii by type only.
        radii = (f"{n} {v}" for n, v in used.items() if "rho_" in n and isinstance(v, Radius))
        inside = ", ".join(radii)
        parts[f"{cell.poison.attack.name} ({inside})" if inside else ""] = None
    return "; ".join(filter(None, parts)) or "no method has a radius"


def _other_axes(plan: Plan) -> str:
    """Return ` x defenses ...` and ` x protected ...` if the plan has any."""
    defenses = dict.fromkeys(cell.defense.label for cell in plan.cells)
    shares = dict.fromkeys(f"{100 * cell.protection.share:g} %" for cell in plan.cells)
    text = "" if [*defenses] == ["none"] else f" x defenses {', '.join(defenses)}"
    return text if [*shares] == ["100 %"] else f"{text} x protected {', '.join(shares)}"


def _run_with_progress(
    out: Console,
    plan: Plan,
    folder: Path,
    device: torch.device,
    pack: int | None,
    threads: int | None,
    command: str | None,
    pace: Pace,
) -> Summary:
    """Run a plan, with bars on a terminal and a line every minute in a file."""

    def report(item: Cell | Probe, result: Record | Robustness) -> None:
        seconds = sum(result.seconds.values())
        say(out, f"done: {item.name}: {_figure_of(result)} in {seconds:.0f} s")

    with ExitStack() as stack:
        progress = (
            Tracker(stack.enter_context(bars(out)))
            if out.is_terminal
            else stack.enter_context(Log(out))
        )
        return api.run(
            plan,
            folder,
            device=device,
            progress=pace.watch(progress, partial(say, out)),
            on_cell=report,
            pack=pack,
            threads=threads,
            command=command,
        )


def _figure_of(result: Record | Robustness) -> str:
    if isinstance(result, Record):
        return f"{result.test_accuracy:.1f} %"
    return f"loss {result.surrogate_loss:.3g} (surrogate), {result.noise_loss:.3g} (reference)"
