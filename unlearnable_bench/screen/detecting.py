"""`ubench detect`: what is measured, progress, and the table."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import torch

from unlearnable_bench.curation.detection import Given, measurements_of
from unlearnable_bench.planning import registry
from unlearnable_bench.results.detection import DETECTIONS, Detection
from unlearnable_bench.results.frame import load_records, select
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.rendering import rendered
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.detection import Examined, measure
from unlearnable_bench.running.environment import device_name
from unlearnable_bench.screen.terminal import Log, Tracker, bars, print_table, say, terminal


def print_detection(
    path: Path,
    selection: Mapping[str, Sequence[str]],
    given: Given,
    device: torch.device,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Measure how well networks recognise the poisons of a folder, and print the table.

    Args:
        path: the results folder.
        selection: column to values, as `select` takes them.
        given: the tests, and what no record has.
        device: where to compute.
        dry_run: print what is missing without measuring it.
        as_json: print JSON: the measurements or, with `dry_run`, what is missing.

    Raises:
        UserError: an argument does not fit the folder.
    """
    folder = ResultsFolder(path)
    work = measurements_of(path, selection, given)
    out = terminal(stderr=as_json)
    missing = [item for item in work if not DETECTIONS.has(path, item.key)]
    names = list(dict.fromkeys(item.suspect.name for item in work))
    for name, text in {
        "poisons": "; ".join(names),
        "tests": "; ".join(dict.fromkeys(item.test.name for item in work)),
        "device": device_name(device),
        "to do": f"{len(missing)} of {count(len(work), 'measurement')}",
    }.items():
        say(out, text, prefix=f"{name:7} ")
    if dry_run:
        for item in missing:
            say(out, item.name, prefix=" " * 8)
        if as_json:
            plan = {
                "measurements": len(work),
                "missing": [{"key": item.key, "name": item.name} for item in missing],
            }
            sys.stdout.write(json.dumps(plan, indent=1) + "\n")
        return
    found = _measured(work, folder, device, out_is_stderr=as_json)
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(found), indent=1) + "\n")
        return
    frame = select(load_records(path), **selection)
    report = registry.reports.get("detection")()
    for table in rendered(report, "detection", frame):
        print_table(out, table)


def _measured(
    work: Sequence[Examined], folder: ResultsFolder, device: torch.device, *, out_is_stderr: bool
) -> list[Detection]:
    out = terminal(stderr=out_is_stderr)

    def show(item: Examined, found: Detection, now: bool) -> None:
        spent = f"in {found.seconds:.0f} s" if now else "(measured before)"
        say(out, f"done: {item.name}: {found.accuracy:.1f} % {spent}")

    with ExitStack() as stack:
        progress = (
            Tracker(stack.enter_context(bars(out)))
            if out.is_terminal
            else stack.enter_context(Log(out))
        )
        return measure(work, folder, device, progress, show)
