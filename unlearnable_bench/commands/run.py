"""`ubench run`: from options and plan files to records and tables."""

import shlex
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import (
    Dataset,
    Debug,
    Device,
    DryRun,
    Pack,
    PluginFiles,
    PresetName,
    ResultsOut,
    Seeds,
    Threads,
    command_line,
    default_folder,
    load_plugins,
    parse_settings,
    settings_option,
    text_option,
)
from unlearnable_bench.commands.completion import names_of, words
from unlearnable_bench.commands.damaged import damage_named
from unlearnable_bench.errors import UserError


def run(
    plan_path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PLAN.toml",
            help="Plan file. Its keys are the long names of the options below; its table [set] "
            "holds settings. Options on the command line override it, --set overrides single "
            "settings.",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        str | None,
        text_option(
            "NAMES",
            "Comma-separated attacks, e.g. sem,rem or ours=file:noise.npy.",
            names_of("attacks", ","),
        ),
    ] = None,
    rho_a: Annotated[
        str | None,
        text_option(
            "RADII",
            "Comma-separated radii of adversarial training, e.g. 0,4/255; 0 is standard training; "
            "default: 0.",
        ),
    ] = None,
    rho_u: Annotated[
        str | None,
        text_option(
            "RADII",
            "Comma-separated radii of the noise, e.g. 8/255,16/255; default: each attack's own, "
            "usually 8/255.",
        ),
    ] = None,
    dataset: Dataset = None,
    preset: PresetName = None,
    learners: Annotated[
        str | None,
        text_option(
            "NAMES",
            "Comma-separated architectures to train, e.g. resnet18,vgg16-bn; default: the "
            "preset's.",
            names_of("learners", ","),
        ),
    ] = None,
    surrogate: Annotated[
        str | None,
        text_option(
            "NAME",
            "Architecture of the surrogate that attacks use; default: the preset's.",
            names_of("learners"),
        ),
    ] = None,
    defenses: Annotated[
        str | None,
        text_option(
            "NAMES",
            "Comma-separated defenses, e.g. jpeg,cutmix; jpeg+cutmix applies both; default: none.",
            names_of("defenses", ",+"),
        ),
    ] = None,
    protect: Annotated[
        str | None,
        text_option(
            "SHARES",
            "Comma-separated shares of the training images to poison, above 0 and at most 1, e.g. "
            "0.2,0.8; default: 1.",
        ),
    ] = None,
    protect_classes: Annotated[
        str | None,
        text_option(
            "NAMES",
            "Comma-separated classes to poison, by name or label, e.g. cat,dog or '#0'; default: "
            "all.",
        ),
    ] = None,
    seeds: Seeds = None,
    settings: Annotated[
        list[str],
        settings_option(
            "NAME.OPTION=VALUE",
            "Option of an attack, defense, learner or data set (`ubench list KIND "
            "--verbose`), e.g. sem.steps=2000, or of a schedule: training.epochs=30 for all "
            "training, adversarial.epochs=30 for rho_a above 0. Comma-separated values, e.g. "
            "jpeg.quality=90,50, make one variant of an attack, defense or learner each. May be "
            "repeated.",
        ),
    ] = [],  # noqa: B006 - typer copies it
    clean: Annotated[
        bool | None,
        typer.Option(
            "--clean/--no-clean", help="Control trained on the clean images; default: --clean."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        text_option(
            "NAME",
            "Arithmetic of the networks: bf16, fp32 or fp64; default: the preset's.",
            words("bf16", "fp32", "fp64"),
        ),
    ] = None,
    device: Device = "",
    out: ResultsOut = None,
    pack: Pack = None,
    threads: Threads = None,
    plugins: PluginFiles = [],  # noqa: B006
    dry_run: DryRun = False,
    _debug: Debug = False,
    written: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="FILE", help="Plan file to save these options in, e.g. grid.toml."
        ),
    ] = None,
) -> None:
    """Poison images, train learners on them, report test accuracy.

    Example: ubench run --methods sem,rem --rho-a 4/255

    Example: ubench run grid.toml --seeds 0-4

    Finished cells in the results folder are reused. An interrupted run resumes where it was: Ctrl-C
    and SIGTERM save its state.
    """
    from unlearnable_bench import api
    from unlearnable_bench.planning import plan_file
    from unlearnable_bench.presets import default_preset
    from unlearnable_bench.running.environment import pick_device
    from unlearnable_bench.screen import console

    line = {
        "methods": methods, "rho-a": rho_a, "rho-u": rho_u, "dataset": dataset, "preset": preset,
        "learners": learners, "surrogate": surrogate, "defenses": defenses, "protect": protect,
        "protect-classes": protect_classes, "seeds": seeds, "clean": clean, "precision": precision,
        "set": parse_settings(settings, several=True),
    }  # fmt: skip
    given = {name: value for name, value in line.items() if value is not None}
    options = plan_file.merged(plan_file.read(plan_path) if plan_path else {}, given)
    if "methods" not in options:
        raise UserError("no methods given: add --methods, such as --methods sem,rem")
    load_plugins(plugins)
    where = pick_device(device or None)
    chosen_preset = bool(options.get("preset"))
    if not chosen_preset:
        options["preset"] = default_preset(where.type)
    with damage_named():
        plan = api.make_plan(**plan_file.arguments(options, "--"))
        if written:
            plan_file.write(written, options)
            files = chain.from_iterable(("--plugin", str(file)) for file in plugins)
            machine = {"--out": out, "--device": device, "--pack": pack, "--threads": threads}
            kept = (part for flag, value in machine.items() if value for part in (flag, str(value)))
            again = shlex.join(["ubench", "run", str(written), *files, *kept])
            sys.stdout.write(f"wrote {written}; run it: {again}\n")
        failed = console.run(
            plan,
            out or default_folder(plan),
            where,
            chosen_preset=chosen_preset,
            dry_run=dry_run,
            pack=pack,
            threads=threads,
            command=command_line(),
        )
        if failed:
            raise typer.Exit(2)
