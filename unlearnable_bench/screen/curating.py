"""Output of the commands about results folders."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console

from unlearnable_bench.results.intervals import count
from unlearnable_bench.screen.terminal import duration, say, terminal
from unlearnable_bench.storage.disk import bytes_text

if TYPE_CHECKING:  # one of them needs torch, for which the others should not wait
    from unlearnable_bench.curation.removal import Removal
    from unlearnable_bench.curation.reproduction import Comparison
    from unlearnable_bench.curation.status import PlanState, Running, Status
    from unlearnable_bench.curation.verifying import Verdict

_RETRY = " --retry-failed"
_SHOWN = 10  # cells of a kind that are printed
_WIDTH = 8  # of the headings
_DIGITS = 8  # of a key that are printed


def print_status(status: "Status") -> None:
    """Print the state of a results folder, and the next command."""
    out = terminal()
    done = len(status.done) + len(status.measured)
    asked = done + len(status.failed) + len(status.missing)
    asked += sum(one.is_cell for one in status.running)
    kind = "cells and measurement" if any(one.measurements for one in status.plans) else "cell"
    say(out, f"{done} of {count(asked, kind)}", prefix=f"{'done':{_WIDTH}} ")
    running = [f"{one.name}: {_place(one)}" for one in status.running]
    _print_list(out, "running", len(running), running)
    failed = [f"{one.key[:_DIGITS]}  {one.name}: {one.reason}" for one in status.failed]
    _print_list(out, "failed", len(failed), failed)
    missing = [f"{key[:_DIGITS]}  {name}" for key, name in status.missing.items()]
    _print_list(out, "missing", len(missing), missing)
    plans = [
        f"{plan.key}  {_progress(plan)} done, last run {_short(plan.last_run)}: "
        f"{plan.command or 'made in Python'}"
        for plan in status.plans
    ]
    _print_list(out, "plans", len(plans), plans, shown=len(plans))
    poisons = [f"{one.key[:_DIGITS]}  {one.name}" for one in status.poisons]
    _print_list(out, "poisons", len(poisons), poisons)
    parts = sorted(status.disk.items(), key=lambda item: -item[1])
    most = ", ".join(f"{name} {bytes_text(size)}" for name, size in parts[:3])
    whole = bytes_text(sum(status.disk.values()))
    say(out, f"{whole}: {most}", prefix=f"{'disk':{_WIDTH}} ")
    for step in _next(status):
        say(out, step, prefix=f"{'next':{_WIDTH}} ")


def _progress(plan: "PlanState") -> str:
    """Return how many cells and measurements of a plan are done."""
    cells = f"{plan.done} of {count(plan.cells, 'cell')}"
    if not plan.measurements:
        return cells
    return f"{cells}, {plan.measured} of {count(plan.measurements, 'measurement')}"


def _next(status: "Status") -> list[str]:
    """Return what to do about failed and missing cells."""
    steps = []
    traced = next((one for one in status.failed if one.has_traceback), None)
    if traced is not None:
        steps.append(f"ubench show {status.folder} {traced.key[:_DIGITS]} prints the traceback")
    for plan in status.plans:
        command = _into(status.folder, plan.command)
        if plan.failed and command.startswith("ubench run "):
            steps.append(f"{command.replace(_RETRY, '')}{_RETRY}")
        elif command and _is_open(plan) and not status.running:
            steps.append(command)
    return steps


def _is_open(plan: "PlanState") -> bool:
    return plan.done < plan.cells or plan.measured < plan.measurements


def _into(folder: str, command: str) -> str:
    """Return a command with this folder as its own: the folder may have been moved or copied."""
    words = shlex.split(command)
    if "--out" in words[:-1]:
        words[words.index("--out") + 1] = folder
    elif words:
        words += ["--out", folder]
    return shlex.join(words)


def _print_list(
    out: Console, heading: str, number: int, lines: Sequence[str], shown: int = _SHOWN
) -> None:
    say(out, str(number), prefix=f"{heading:{_WIDTH}} ")
    for line in lines[:shown]:
        say(out, line, prefix=" " * (_WIDTH + 1))
    if len(lines) > shown:
        say(out, f"and {len(lines) - shown} more (--json)", prefix=" " * (_WIDTH + 1))


def _place(one: "Running") -> str:
    """Return where and since when work is done, and how far it is."""
    where = one.where
    text = f"process {where.get('process', '?')} on {where.get('host', '?')}"
    if "gpus" in where:
        text += f", GPU {where['gpus']}"
    if "job" in where:
        text += f", job {where['job']}"
    if one.since:
        text += f", for {_ago(one.since)}"
    return f"{text}; {one.progress} (saved {_ago(one.saved)} ago)" if one.progress else text


def _ago(moment: str) -> str:
    try:
        spent = datetime.now(UTC) - datetime.fromisoformat(moment)
    except (ValueError, TypeError):
        return "?"
    return duration(max(0.0, spent.total_seconds()))


def _short(moment: str) -> str:
    return moment[:16].replace("T", " ") or "?"


def counted(numbers: Mapping[str, int]) -> str:
    """Return numbers of files by folder as text."""
    names = {
        "cells": "record", "robustness": "measurement", "noise": "noise sample",
        "autoattack": "AutoAttack measurement", "detection": "detection measurement",
    }  # fmt: skip
    parts = (
        count(number, names.get(kind, kind.removesuffix("s"))) for kind, number in numbers.items()
    )
    return ", ".join(parts) or "nothing"


def print_verdict(verdict: "Verdict") -> None:
    """Print what the check of a folder found; damaged files on stderr."""
    out, errors = terminal(), terminal(stderr=True)
    bare = f"; {verdict.bare} of versions before 0.3 without a checksum" if verdict.bare else ""
    say(out, f"sound: {counted(verdict.sound)}{bare}")
    for name in verdict.foreign:
        say(out, f"not read, because no run writes it: {name}")
    for line in verdict.damaged:
        say(errors, f"ubench: {line}")


def print_removal(removal: "Removal", *, done: bool) -> None:
    """Print what is, or would be, removed."""
    out = terminal()
    kinds = Counter(file.parent.name for file in removal.files)
    if not done:
        for file in removal.files:
            say(out, str(file))
    verb = "removed" if done else "would remove"
    say(out, f"{verb} {counted(kinds)}" + ("" if done else f", {bytes_text(removal.size)}"))
    if removal.busy:
        say(out, f"left alone, because they are being computed: {', '.join(removal.busy)}")
    if removal.files and not done:
        say(out, "nothing is removed yet; add --yes")


def print_comparison(found: "Comparison") -> None:
    """Print what a reproduced cell has in common with its record."""
    out = terminal()
    kind = "the same kind of machine" if found.same_kind else "another kind of machine"
    say(out, kind, prefix=f"{'machine':9} ")
    for line in found.differing:
        say(out, line, prefix=" " * 10)
    noise = "identical" if found.same_noise else "differs"
    say(out, noise, prefix=f"{'noise':9} ")
    change = f"{found.again - found.recorded:+.2f} points"
    say(
        out,
        f"{found.recorded:.2f} % recorded, {found.again:.2f} % here ({change})",
        prefix=f"{'accuracy':9} ",
    )
    if found.identical:
        verdict = "reproduced, bit for bit"
    elif found.is_reproduced:
        verdict = f"reproduced within {found.tolerance:g} points"
    elif found.exact:
        verdict = "not reproduced: results on the same kind of CPU must be identical"
    else:
        verdict = f"not reproduced: beyond {found.tolerance:g} points"
    say(out, verdict, prefix=f"{'verdict':9} ")
