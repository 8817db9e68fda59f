"""`ubench reproduce`: computes a cell again and compares it with its record."""

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import (
    AsJson,
    Debug,
    Device,
    Folder,
    Key,
    PluginFiles,
    RecordedDataset,
    RecordedMethod,
    Threads,
    load_plugins,
)
from unlearnable_bench.commands.damaged import damage_named

# Noise that is optimised with other rounding is another noise: at 4/255, SEM's accuracy has a
# standard deviation of 5.1 points between seeds (docs/performance.md).
_TOLERANCE = 5.0


def reproduce(
    folder: Folder,
    key: Key,
    device: Device = "",
    threads: Threads = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Results folder to compute it in, where an interrupted run resumes; default: a "
            "temporary one.",
        ),
    ] = None,
    dataset: RecordedDataset = None,
    methods: RecordedMethod = None,
    plugins: PluginFiles = [],  # noqa: B006 - typer copies it
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            min=0,
            max=100,
            help="Percentage points by which accuracy may differ on a GPU or another kind of "
            "machine; on the same kind of CPU, results must be identical.",
        ),
    ] = _TOLERANCE,
    as_json: AsJson = False,
    _debug: Debug = False,
) -> None:
    """Compute a cell again and compare it with its record.

    Example: ubench reproduce results/shapes-smoke 3f2a

    Exit code 2 if it is not reproduced: not identical on the same kind of CPU (device, threads and
    versions), or beyond the tolerance on a GPU or another kind of machine.
    """
    from unlearnable_bench.curation import reproduction
    from unlearnable_bench.running.environment import pick_device
    from unlearnable_bench.running.threads import use_threads
    from unlearnable_bench.screen.console import loop_progress
    from unlearnable_bench.screen.curating import print_comparison
    from unlearnable_bench.screen.terminal import terminal

    load_plugins(plugins)
    where = pick_device(device or None)
    record = reproduction.recorded(folder, key)
    if where.type == "cpu":  # on whose number results depend
        threads = threads or record.environment.get("threads")
    use_threads(threads)
    plan = reproduction.plan_of(record, {"dataset": dataset, "methods": methods}, plugins)
    with ExitStack() as stack:
        stack.enter_context(damage_named())
        place = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ubench-")))
        progress = stack.enter_context(loop_progress(terminal(stderr=True)))
        again = reproduction.compute(plan, place, where, progress, threads)
    found = reproduction.compare(record, again, tolerance)
    if as_json:
        sys.stdout.write(json.dumps(found.as_json(), indent=1) + "\n")
    else:
        print_comparison(found)
    if not found.is_reproduced:
        raise typer.Exit(2)
