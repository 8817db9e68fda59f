"""Print the plan, progress, tables and comparisons on the terminal."""

import math
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.progress import Progress as Bars
from rich.text import Text

from unlearnable_bench import api, traces
from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.execution import Executor
from unlearnable_bench.executors.local import usual_workers
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.planning.checks import check_names
from unlearnable_bench.planning.plan import Cell, Plan, Probe
from unlearnable_bench.radius import Radius
from unlearnable_bench.reports._text import printable
from unlearnable_bench.results.comparison import compare, rank_correlation
from unlearnable_bench.results.frame import select
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.rendering import default_tables, render
from unlearnable_bench.results.robustness import Robustness
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.environment import device_name
from unlearnable_bench.running.executor import Summary
from unlearnable_bench.running.restart import giving_up, restart_without
from unlearnable_bench.running.stall import Stall
from unlearnable_bench.running.threads import use_threads
from unlearnable_bench.running.work import Job, Work, longest_first
from unlearnable_bench.screen.dry_run import on_cards, work_left
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
    say_done,
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
    benches: Sequence[Path] = (),
    only: Collection[str] | None = None,
    stall: tuple[str, float] | None = None,
    keep_learners: bool = False,
    executor: Executor | None = None,
    make_job: Callable[[list[str]], Job] | None = None,
    in_one: bool = False,
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
        benches: files of `ubench bench --json`, for whose devices the time is estimated.
        only: keys of the cells to compute; None: all.
        stall: time without a step after which a cell is ended, as text and in seconds.
        keep_learners: write trained learners to the folder.
        executor: computes the cells; None: this process, or on a CPU the usual worker processes.
        make_job: makes the job of an executor from the keys of the missing cells.
        in_one: without an executor, compute in this process.
    """
    check_names(plan)
    use_threads(threads)
    out, pace = terminal(), Pace(plan, pack or 1)
    left = work_left(plan, folder, only)
    if make_job and not (executor or in_one) and device.type == "cpu":
        executor = usual_workers(len(plan.work))
    where = executor.described(device_name(device)) if executor else device_name(device)
    lines = _described(plan, folder, device, where, left.done, chosen_preset=chosen_preset)
    lines["estimate"] = "nothing to compute"
    if left.items:
        check_learners(plan, device)
        theirs = executor.worker_device() if executor else None
        lines["estimate"] = "\n".join(map(str, on_cards(left.works, benches, pack))) or estimate(
            plan,
            torch.device(theirs) if theirs and not dry_run else device,
            works=left.works,
            dry_run=dry_run,
            pace=None if executor else pace,  # workers have threads of their own
            remote=bool(executor and executor.remote),
        )
    _print_plan(out, lines)
    here = partial(
        _run_with_progress, out, plan, folder, device, pack, threads, command, pace, only, stall,
        keep_learners=keep_learners,
    )  # fmt: skip
    job = None
    if executor and make_job and left.items:
        job = make_job([item.key for item in longest_first(left.items, left.has_noise)])
    if dry_run:
        if executor and job:
            out.print(Text(executor.dry_run(job)), soft_wrap=True, end="")
        return False
    summary: Summary | None
    if executor and job:
        with ExitStack() as stack:
            opened = api.open_folder(plan, folder, command)
            summary = executor.run(Work(plan, opened, job, _Screen(out, stack), here))
    else:
        summary = here()
    if summary is None:
        return False
    _print_outcome(out, plan, folder, summary)
    return bool(summary.failures)


def _print_outcome(out: Console, plan: Plan, folder: Path, summary: Summary) -> None:
    """Print the tables of a plan, the next command, and failures."""
    errors = terminal(stderr=True)
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


def _print_correlations(out: Console, frame: pd.DataFrame) -> None:
    """Print the correlations of robustness with protection, over all variants of the folder."""
    try:
        text = str(render(frame, "correlation", "markdown"))
    except UserError as error:  # cells failed
        text = f"no correlation: {error}"
    # Spaces align the columns, and the format has made every name printable.
    out.print(Text(f"\n{text}"), soft_wrap=True)


def comparison(first: Path, second: Path | None, presets: Sequence[str] = ()) -> None:
    """Print the cells that two sides have in common, their differences and rank correlation.

    Args:
        first: a results folder.
        second: another; None: the first one's, of another preset.
        presets: of the first and the second side; none: whatever the folders hold.
    """
    names = [str(first), str(second or first)]
    sides = [api.load_records(folder) for folder in names]
    for name, side in zip(names, sides, strict=True):
        if side.empty:
            raise UserError(f"{name} has no finished cell to compare; run `ubench run` first")
    if presets:
        sides = [_of_preset(*one) for one in zip(sides, presets, presets[::-1], strict=True)]
        names = [*presets] if second is None else names
    both = compare(*sides)
    kinds = both.columns.drop(["attack", "first", "second", "pairs", "same", "differing"])
    # Only columns in which the cells of one method differ.
    varying = kinds[both.groupby("attack")[list(kinds)].nunique().max() > 1]
    grid = new_grid(["method", *varying], ["seeds", *names, "difference"])
    for row in both.to_dict("records"):
        one, other = row["first"], row["second"]
        texts = (Text(printable(str(row[name]))) for name in ("attack", *varying))
        pairs = str(row["pairs"] or "others")
        grid.add_row(*texts, pairs, f"{one:.1f}", f"{other:.1f}", f"{other - one:+.1f}")
    out = terminal()
    print_grid(out, grid)
    paired = both[both["pairs"] > 0]
    if 0 < len(paired) < len(both):
        others = count(len(both) - len(paired), "cell")
        say(out, f"The two means of {others} are of other seeds (others); what follows is without.")
    if paired.empty:
        say(out, "The two sides have no pair of noise and learner seed in common: no correlation.")
        _say_differing(out, both)
        return
    correlation = rank_correlation(paired)
    reason = "one cell" if len(paired) == 1 else "all accuracies of a column are equal"
    ranks = (
        f"no rank correlation: {reason}"
        if math.isnan(correlation)
        else f"Spearman's rank correlation {correlation:.3f}"
    )
    gaps = (paired["second"] - paired["first"]).abs()
    far = paired.iloc[int(gaps.argmax())]

    def named(row: Mapping[Any, object]) -> str:
        return ", ".join(printable(str(row[name])) for name in ("attack", *varying))

    say(out, f"Clean test accuracy (%); {ranks} ({count(len(paired), 'cell')}).")
    most = f"at most {gaps.max():.1f} ({named(far.to_dict())})"
    say(out, f"Differences: {gaps.mean():.1f} points on average, {most}.")
    remade = paired[paired["same"] < paired["pairs"]]
    if not remade.empty:
        cells = "; ".join(map(named, remade.to_dict("records")))
        say(out, f"Poisoned images differ between the two sides: {cells}.")
    _say_differing(out, both)


def _of_preset(frame: pd.DataFrame, preset: str, other: str) -> pd.DataFrame:
    """Return the cells of exactly a preset or, if there are none, of its variants but the other."""
    exact = frame[frame["preset"] == preset]
    if not exact.empty:
        return exact
    left = frame if other == preset else frame[frame["preset"] != other]
    if left.empty:
        raise unknown("preset", preset, [other])
    return select(left, preset=[preset])


def _say_differing(out: Console, both: pd.DataFrame) -> None:
    differing = sorted({name for names in both["differing"] for name in names})
    if differing:
        say(out, f"Settings that differ: {', '.join(differing)}.")


def _print_plan(out: Console, lines: Mapping[str, str]) -> None:
    for name, text in lines.items():
        for number, line in enumerate(text.split("\n")):
            say(out, line, prefix=f"{'' if number else name:9} ")


def _described(
    plan: Plan,
    folder: Path,
    device: torch.device,
    where: str,
    done: int,
    *,
    chosen_preset: bool,
) -> dict[str, str]:
    """Return the lines of a plan by their headings; `where` names what computes it."""
    data = plan.data
    why = "" if chosen_preset else f" (default on {device.type}; change it with --preset)"
    size = f"{len(plan.cells)}"
    if plan.probes:
        size += f" and {count(len(plan.probes), 'measurement')} of robustness"
    return {
        "preset": f"{plan.preset_label}{why}",
        "data": f"{data.name}: {len(data.train)} training and {len(data.test)} test images, "
        f"{len(data.class_names)} classes, {data.train.size} px"
        + (f", cropped to {data.test.size} px" if data.test.size != data.train.size else ""),
        "learner": ", ".join(dict.fromkeys(c.learner.label for c in plan.cells))
        + f"; surrogate {', '.join(dict.fromkeys(c.poison.surrogate.label for c in plan.cells))}"
        f"; precision {plan.cells[0].poison.precision}",
        "noise": "\n".join(map(printable, (_noises(plan), *plan.remarks))),
        "device": where,
        "cells": f"{size}: {', '.join(dict.fromkeys(c.method for c in plan.cells))}"
        f"{_other_axes(plan)}"
        f" x training at rho_a {', '.join(dict.fromkeys(str(c.rho_a) for c in plan.cells))}"
        f"{_seeds(plan)}",
        "results": f"{folder} ({done} of {len(plan.work)} already finished)",
    }


def _seeds(plan: Plan) -> str:
    """Return ` x seeds 0, 1`, after ` x noise seeds ...` if the two differ in any cell."""
    seeds = f" x seeds {', '.join(dict.fromkeys(str(c.seed) for c in plan.cells))}"
    drawn = [c for c in plan.cells if c.poison.attack.plugin.seeded or c.protection.share < 1]
    if all(cell.noise_seed is None for cell in plan.cells):
        return seeds
    return f" x noise seeds {', '.join(dict.fromkeys(str(c.poison.seed) for c in drawn))}{seeds}"


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
    only: Collection[str] | None = None,
    stall: tuple[str, float] | None = None,
    *,
    keep_learners: bool = False,
) -> Summary:
    """Run a plan, with bars on a terminal and a line every minute in a file."""
    limit: Stall | None = None
    if stall:
        known = ResultsFolder(folder, create=True)
        lost = giving_up(plan, known, restart_without)
        limit = Stall(stall[1], stall[0], lost, grace=min(60.0, stall[1]))
    with loop_progress(out) as progress:
        return api.run(
            plan,
            folder,
            device=device,
            progress=pace.watch(progress, partial(say, out)),
            on_cell=partial(say_done, out),
            pack=pack,
            threads=threads,
            command=command,
            keep_learners=keep_learners,
            only=only,
            stall=limit,
        )


@contextmanager
def loop_progress(out: Console) -> Iterator[Progress]:
    """Yield a display of loops: bars on a terminal, or a line every minute in a file."""
    with bars(out) if out.is_terminal else Log(out) as shown:
        yield Tracker(shown) if isinstance(shown, Bars) else shown


@dataclass(frozen=True)
class _Screen:
    """Where an executor shows what happens: `running.work.Screen`."""

    out: Console
    stack: ExitStack

    @cached_property
    def progress(self) -> Progress:
        """The display of loops, which is there from its first use to the end of the run."""
        return self.stack.enter_context(loop_progress(self.out))

    def say(self, text: str) -> None:
        say(self.out, text)

    def warn(self, text: str) -> None:
        say(terminal(stderr=True), f"ubench: {text}")

    def done(self, item: Cell | Probe, result: Record | Robustness) -> None:
        say_done(self.out, item, result)
