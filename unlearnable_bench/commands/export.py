"""`ubench export`: the poisoned images or the noise of a cell, for other programs."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import (
    Debug,
    Device,
    Folder,
    PluginFiles,
    RecordedDataset,
    RecordedMethod,
    Threads,
    load_plugins,
    text_option,
)
from unlearnable_bench.commands.completion import words
from unlearnable_bench.commands.damaged import damage_named


def export(
    folder: Folder,
    key: Annotated[
        str,
        typer.Argument(
            help="Key of a poison (`ubench status`) or of a cell (`ubench status --json`), or its "
            "first digits."
        ),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="Format: folder (PNG by class), npz, safetensors, hf (for `datasets`) or "
            "webdataset (shards).",
            autocompletion=words("folder", "npz", "safetensors", "hf", "webdataset"),
        ),
    ] = "npz",
    what: Annotated[
        str,
        text_option(
            "CONTENT",
            "Content: images (poisoned), or noise (poisoned minus clean, in levels) for npz and "
            "safetensors.",
            words("images", "noise"),
        ),
    ] = "images",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="New folder for the files; default: DATASET-METHOD-seed-SEED-FORMAT.",
        ),
    ] = None,
    with_test: Annotated[
        bool, typer.Option("--with-test", help="Export the clean test images too.")
    ] = False,
    device: Device = "",
    threads: Threads = None,
    dataset: RecordedDataset = None,
    methods: RecordedMethod = None,
    plugins: PluginFiles = [],  # noqa: B006 - typer copies it
    _debug: Debug = False,
) -> None:
    """Write poisoned images, or noise, in a format of other programs.

    Example: ubench export results/shapes-smoke 3f2a --to folder --out protected

    The key of a cell stands for the images that it was trained on: with --protect 0.5, half of
    them. That of a poison stands for all of them poisoned. A poison that is not stored is made
    again and compared with the record. A card (card.json, README.md) names method, budget, hashes,
    order and citation.
    """
    from unlearnable_bench.curation import reproduction
    from unlearnable_bench.exporting.content import content_of
    from unlearnable_bench.exporting.formats import format_of
    from unlearnable_bench.exporting.writing import check_place, write
    from unlearnable_bench.planning.protection import EVERYTHING
    from unlearnable_bench.results.store import ResultsFolder
    from unlearnable_bench.running.environment import pick_device
    from unlearnable_bench.running.export import poison_as_recorded, poisoned_set
    from unlearnable_bench.running.threads import use_threads
    from unlearnable_bench.screen.console import loop_progress
    from unlearnable_bench.screen.exporting import print_export
    from unlearnable_bench.screen.terminal import terminal

    load_plugins(plugins)
    content = content_of(what)
    format_of(form, content)
    if out:
        check_place(out)
    where = pick_device(device or None)
    use_threads(threads)
    with ExitStack() as stack:
        stack.enter_context(damage_named())
        record, whole = reproduction.exported(folder, key)
        plan = reproduction.plan_of(record, {"dataset": dataset, "methods": methods}, plugins)
        (cell,) = plan.cells
        if whole:
            cell = replace(cell, protection=EVERYTHING)
        progress = stack.enter_context(loop_progress(terminal(stderr=True)))
        found = poison_as_recorded(cell, ResultsFolder(folder), record.poison, where, progress)
        poisoned = poisoned_set(
            cell, *found, with_test=with_test, record=None if whole else record.key
        )
        data = cell.poison.data.name.replace(":", "-").partition("[")[0]
        place = out or Path(f"{data}-{poisoned.name}-{form}")
        place = write(poisoned, place, form, content, progress)
    print_export(place, poisoned, content)
