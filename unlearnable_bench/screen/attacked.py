"""`ubench autoattack`: the data of a cell, progress, and the result."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec
import torch

from unlearnable_bench.curation.reproduction import data_of
from unlearnable_bench.planning.grid import load_data
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.autoattack import ROBUST_ACCURACIES
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.autoattack import attacked, find_cell, measure, require_package
from unlearnable_bench.screen.terminal import Log, Tracker, bars, say, terminal


def print_autoattack(
    path: Path,
    key: str,
    rho: Radius,
    images: int,
    seed: int,
    dataset: str | None,
    settings: dict[str, str],
    device: torch.device,
    *,
    as_json: bool,
) -> None:
    """Measure the robust accuracy of a kept learner, with progress, and print it.

    Args:
        path: the results folder.
        key: key of the learner's cell, or its beginning.
        rho: L-infinity radius.
        images: number of test images.
        seed: seed of the images and of the attacks.
        dataset: the data set; None: that which the record names.
        settings: options of the data set.
        device: where to compute.
        as_json: print the measurement as JSON.

    Raises:
        UserError: the extra package is missing, or an argument does not fit the cell.
    """
    require_package()
    folder = ResultsFolder(path)
    record = find_cell(folder, key)
    data = load_data(dataset, settings) if dataset else data_of(record, settings)
    work = attacked(folder, record, data, rho, images, seed)
    out = terminal(stderr=as_json)
    lines = {
        "cell": f"{record.key}: {record.attack}, {record.learner}, rho_a {record.rho_a}",
        "attack": f"AutoAttack ({', '.join(work.attacks)}), L-infinity {rho}, fp32",
        "images": f"{work.images} of {len(data.test)} test images of {data.name}, seed {seed}",
    }
    for name, text in lines.items():
        say(out, text, prefix=f"{name:7} ")
    with ExitStack() as stack:
        progress = (
            Tracker(stack.enter_context(bars(out)))
            if out.is_terminal
            else stack.enter_context(Log(out))
        )
        found, now = measure(work, folder, device, progress)
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(found), indent=1) + "\n")
        return
    steps = ", ".join(f"{name} {value:.1f}" for name, value in found.after.items())
    say(
        out,
        f"robust accuracy {found.robust_accuracy:.1f} % (clean {found.clean_accuracy:.1f} %; "
        f"after {steps}) in {found.seconds:.0f} s",
    )
    for line in found.warnings:
        say(out, f"warning: {line}")
    say(
        out, f"{'written' if now else 'measured before'}: {ROBUST_ACCURACIES.path(path, found.key)}"
    )
