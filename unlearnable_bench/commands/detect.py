"""`ubench detect`: how easily the poisons of a results folder are detected."""

from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import (
    AsJson,
    Debug,
    Device,
    Folder,
    PluginFiles,
    Threads,
    load_plugins,
    parse_settings,
    settings_option,
    split_names,
    text_option,
)
from unlearnable_bench.commands.completion import names_of, words
from unlearnable_bench.commands.damaged import damage_named
from unlearnable_bench.errors import UserError


def detect(
    folder: Folder,
    tests: Annotated[
        str,
        text_option(
            "NAMES",
            "Comma-separated tests: linear, two-layer, bias-shift.",
            words("linear", "two-layer", "bias-shift"),
        ),
    ] = "linear,two-layer,bias-shift",
    methods: Annotated[
        str,
        text_option(
            "NAMES",
            "Comma-separated methods, with clean for the differences to it; default: all.",
            names_of("attacks", ","),
        ),
    ] = "",
    datasets: Annotated[str, text_option("NAMES", "Comma-separated data sets; default: all.")] = "",
    learner: Annotated[
        str | None,
        text_option(
            "NAME",
            "Learner of the bias-shift test; default: that of the folder's first cell.",
            names_of("learners"),
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(metavar="NUMBER", min=0, help="Seed of the held-out images and of training."),
    ] = 0,
    dataset: Annotated[
        str | None,
        text_option(
            "NAME",
            "Data set of the cells, e.g. npz:FILE; default: that of their names.",
            names_of("datasets"),
        ),
    ] = None,
    files: Annotated[
        list[str],
        typer.Option(
            "--file",
            metavar="ROW=PATH",
            help="Path of the poison of a row that came from a file; may be repeated.",
        ),
    ] = [],  # noqa: B006 - typer copies it
    settings: Annotated[
        list[str],
        settings_option(
            "NAME.OPTION=VALUE",
            "Option of the schedule (training.epochs=20), of a network (mlp2.width=3072) or of the "
            "data set; may be repeated.",
        ),
    ] = [],  # noqa: B006
    device: Device = "",
    threads: Threads = None,
    plugins: PluginFiles = [],  # noqa: B006
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what is missing without measuring it.")
    ] = False,
    as_json: AsJson = False,
    _debug: Debug = False,
) -> None:
    """Measure how easily poisons are detected (simple networks, bias shift).

    Example: ubench detect results/shapes-smoke --tests linear,two-layer

    Networks are trained on four fifths of each poisoned training set and tested on the rest, which
    is poisoned too. The higher the accuracy above that of clean images, the easier a poison is
    detected. Finished measurements in the results folder are reused.
    """
    from unlearnable_bench.curation.detection import Given
    from unlearnable_bench.running.environment import pick_device
    from unlearnable_bench.running.threads import use_threads
    from unlearnable_bench.screen.detecting import print_detection

    load_plugins(plugins)
    where = pick_device(device or None)
    use_threads(threads)
    wanted = {"attack": methods, "dataset": datasets}
    given = Given(
        split_names(tests),
        learner,
        seed,
        parse_settings(settings),
        dataset,
        dict(_file(text) for text in files),
        plugins,
    )
    selection = {name: split_names(text) for name, text in wanted.items() if text}
    with damage_named():
        print_detection(folder, selection, given, where, dry_run=dry_run, as_json=as_json)


def _file(text: str) -> tuple[str, Path]:
    """Return the row and the path of `ROW=PATH`.

    Raises:
        UserError: not such a text.
    """
    row, equals, path = text.partition("=")
    if not (row and equals and path):
        raise UserError(f"--file {text}: write ROW=PATH, such as mine=noise.npz")
    return row, Path(path)
