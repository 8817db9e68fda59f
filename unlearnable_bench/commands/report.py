"""`ubench report` and `ubench compare`: what is made of results folders."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unlearnable_bench.commands.arguments import (
    Debug,
    PluginFiles,
    load_plugins,
    parse_settings,
    settings_option,
    split_names,
    text_option,
)
from unlearnable_bench.commands.completion import Complete, names_of, words
from unlearnable_bench.commands.damaged import damage_named
from unlearnable_bench.errors import UserError


def _selection(kind: str, complete: Complete | None = None) -> Any:
    return text_option("NAMES", f"Comma-separated {kind} to include; default: all.", complete)


def report(
    folders: Annotated[list[Path], typer.Argument(help="Results folders.")],
    report: Annotated[
        str,
        text_option(
            "NAME",
            "Report to make (`ubench list reports`); default: main tables.",
            names_of("reports"),
        ),
    ] = "",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Format of tables: markdown (default), latex, csv or html; of figures: pdf "
            "(default), png or svg. Without --report, csv and json hold one row per group of "
            "seeds, and html is a page with every table and figure.",
            autocompletion=words("markdown", "latex", "csv", "html", "json", "pdf", "png", "svg"),
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="File to write, or with --all the folder; default folder: report."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Write every report in every format to a folder.")
    ] = False,
    plan: Annotated[
        str,
        text_option("KEY", "Plan whose cells are reported, by the key that `ubench run` prints."),
    ] = "",
    datasets: Annotated[str, _selection("data sets")] = "",
    methods: Annotated[
        str,
        text_option(
            "NAMES",
            "Comma-separated methods to include, in the order of the rows; default: all.",
            names_of("attacks", ","),
        ),
    ] = "",
    learners: Annotated[str, _selection("learners", names_of("learners", ","))] = "",
    defenses: Annotated[str, _selection("defenses", names_of("defenses", ",+"))] = "",
    rho_a: Annotated[str, _selection("radii of adversarial training")] = "",
    rho_u: Annotated[str, _selection("radii of the noise")] = "",
    presets: Annotated[str, _selection("presets", names_of("presets", ","))] = "",
    seeds: Annotated[str, _selection("seeds")] = "",
    noise_seeds: Annotated[str, _selection("seeds of the noise")] = "",
    newest: Annotated[
        bool,
        typer.Option(
            "--newest",
            help="Leave out cells of other versions of a plugin or of a file than that run last; "
            "their rows have a # and a hash.",
        ),
    ] = False,
    settings: Annotated[
        list[str],
        settings_option(
            "OPTION=VALUE",
            "Option of the report or the format, e.g. digits=2; may be repeated.",
        ),
    ] = [],  # noqa: B006 - typer copies it
    plugins: PluginFiles = [],  # noqa: B006
    _debug: Debug = False,
) -> None:
    """Make tables, figures or an HTML page from results folders.

    Example: ubench report results/shapes-smoke --format latex

    Example: ubench report results/shapes-smoke --all --output report
    """
    from unlearnable_bench.screen import reporting

    load_plugins(plugins)
    wanted = {
        "dataset": datasets, "attack": methods, "learner": learners, "defense": defenses,
        "rho_a": rho_a, "rho_u": rho_u, "preset": presets, "seed": seeds,
        "noise_seed": noise_seeds,
    }  # fmt: skip
    selection = {name: split_names(text) for name, text in wanted.items() if text}
    options = parse_settings(settings)
    if everything and (report or form or options):
        raise UserError(
            "--all writes every report in every format; omit --report, --format and --set"
        )
    with damage_named():
        frame = reporting.load(folders, plan, selection, newest=newest)
        if everything:
            reporting.write_all(frame, output or Path("report"))
        else:
            reporting.write_one(frame, report or None, form or None, output, options)


def compare(
    first: Annotated[Path, typer.Argument(help="First results folder.")],
    second: Annotated[
        Path | None,
        typer.Argument(help="Second results folder, e.g. of another preset, machine or author."),
    ] = None,
    presets: Annotated[
        str,
        text_option(
            "A,B",
            "Compare the cells of two presets, in one folder or in two. In one folder both train "
            "on the same noise, where its options are the same.",
            names_of("presets", ","),
        ),
    ] = "",
    _debug: Debug = False,
) -> None:
    """Compare the cells that two results folders, or two presets, share.

    Example: ubench compare results/cifar10-fast results/cifar10-paper

    Example: ubench compare results/cifar10 --presets fast,paper

    Prints the accuracy of each cell on both sides, and the rank correlation.
    """
    from unlearnable_bench.screen import console

    pair = split_names(presets) if presets else []
    if pair and len(pair) != 2:
        raise UserError(f"--presets {presets}: give two, such as --presets fast,paper")
    if second is None and not pair:
        raise UserError("give a second results folder, or --presets fast,paper")
    with damage_named():
        console.comparison(first, second, pair)
