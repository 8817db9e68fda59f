"""`ubench run`: from options and plan files to records and tables."""

import json
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlearnable_bench.commands.arguments import (
    STALL_LIMIT,
    AsJson,
    Benches,
    Dataset,
    Debug,
    Device,
    DryRun,
    NoiseSeeds,
    Pack,
    PluginFiles,
    PresetName,
    ResultsOut,
    Seeds,
    StallLimit,
    Threads,
    command_line,
    default_folder,
    load_plugins,
    parse_settings,
    refuse_without_dry_run,
    settings_option,
    text_option,
    time_limit,
)
from unlearnable_bench.commands.completion import names_of, words
from unlearnable_bench.commands.damaged import damage_named
from unlearnable_bench.commands.executors import chosen_executor, job_of
from unlearnable_bench.errors import UserError
from unlearnable_bench.reports._text import printable

if TYPE_CHECKING:
    import torch

    from unlearnable_bench.execution import Executor
    from unlearnable_bench.options import Setting
    from unlearnable_bench.planning.plan import Plan


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
            "Comma-separated architectures to train, e.g. resnet18,vgg16-bn, or "
            "resnet18:pretrained=FILE to start from the weights of a .safetensors file; default: "
            "the preset's.",
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
    noise_seeds: NoiseSeeds = None,
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
    keep_learners: Annotated[
        bool,
        typer.Option(
            "--keep-learners",
            help="Keep the weights of trained learners in the results folder; `ubench learners` "
            "lists them.",
        ),
    ] = False,
    executor_name: Annotated[
        str | None,
        typer.Option(
            "--executor",
            metavar="NAME",
            help="Where the cells are computed: local, gpus, shard, slurm or ray (`ubench list "
            "executors --verbose`; --set slurm.partition=gpu sets an option); default: gpus if "
            "this machine has several, otherwise local.",
            autocompletion=names_of("executors"),
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        text_option(
            "NUMBERS",
            "GPUs of this machine with one worker process each: all, which skips those in use, or "
            "e.g. 0,2.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=1,
            max=1024,
            help="Number of worker processes on this machine; default: on a CPU one per core, at "
            "most 8, one per cell and per 4 GiB of memory, unless --pack or --threads is given.",
        ),
    ] = None,
    shard: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=1,
            max=64,
            help="Number of GPUs of this machine that generate each noise together (REM, SEM, "
            "ASR), each a part of every batch; default: 1.",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        text_option("ADDRESS", "Ray cluster that computes the cells, e.g. 10.0.0.1:6379 or auto."),
    ] = None,
    plugins: PluginFiles = [],  # noqa: B006
    dry_run: DryRun = False,
    benches: Benches = [],  # noqa: B006
    as_json: AsJson = False,
    stall_limit: StallLimit = STALL_LIMIT,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Compute only the cells that failed before. Without it, those are computed with "
            "the missing ones.",
        ),
    ] = False,
    _debug: Debug = False,
    exported: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FOLDER",
            help="Folder for the poisoned training images, one export (`ubench export --to npz`) "
            "per method and seed, e.g. to purify them elsewhere.",
        ),
    ] = None,
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
    from unlearnable_bench.results.store import ResultsFolder
    from unlearnable_bench.running.environment import pick_device
    from unlearnable_bench.screen import console

    refuse_without_dry_run(benches, as_json=as_json, dry_run=dry_run)
    line = {
        "methods": methods, "rho-a": rho_a, "rho-u": rho_u, "dataset": dataset, "preset": preset,
        "learners": learners, "surrogate": surrogate, "defenses": defenses, "protect": protect,
        "protect-classes": protect_classes, "seeds": seeds, "noise-seeds": noise_seeds,
        "clean": clean, "precision": precision, "set": parse_settings(settings, several=True),
    }  # fmt: skip
    given = {name: value for name, value in line.items() if value is not None}
    options = plan_file.merged(plan_file.read(plan_path) if plan_path else {}, given)
    if "methods" not in options:
        raise UserError("no methods given: add --methods, such as --methods sem,rem")
    load_plugins(plugins)
    asked = dict(options["set"])  # of which `chosen_executor` takes its own
    executor = chosen_executor(
        executor_name,
        options["set"],
        gpus=gpus,
        workers=workers,
        shard=shard,
        ray_address=ray_address,
        device=device,
    )
    own = {key: value for key, value in asked.items() if key not in options["set"]}
    if exported:
        _check_export(exported, executor, executor_name)
    theirs = executor.worker_device() if executor else None
    # If it is the workers' that counts, this process needs one only to time a step.
    times_here = dry_run and not (executor and executor.remote)
    where = pick_device(device or ("cpu" if theirs and not times_here else None))
    chosen_preset = bool(options.get("preset"))
    if not chosen_preset:
        options["preset"] = default_preset(theirs or where.type)
    with damage_named():
        plan = api.make_plan(**plan_file.arguments(options, "--"))
        if written:
            plan_file.write(written, options)
            machine = {
                "--out": out, "--device": device, "--pack": pack, "--threads": threads,
                "--executor": executor_name, "--gpus": gpus, "--workers": workers, "--shard": shard,
                "--ray-address": ray_address, "--export": exported,
                "--stall-limit": None if stall_limit == STALL_LIMIT else stall_limit,
            }  # fmt: skip
            again = _next_command(written, plugins, machine, own, keep_learners=keep_learners)
            shown = sys.stderr if as_json else sys.stdout
            shown.write(f"wrote {written}; run it: {again}\n")
        folder = out or default_folder(plan)
        only = ResultsFolder(folder).failures(lenient=True).keys() if retry_failed else None
        if as_json:
            from unlearnable_bench.screen import dry_run as dry

            found = dry.as_json(plan, folder, where, benches, pack, only)
            sys.stdout.write(json.dumps(found, indent=1) + "\n")
            return
        if only is not None and not any(item.key in only for item in plan.work):
            sys.stdout.write(
                f"no cell of this plan failed in {folder}; without --retry-failed, missing ones "
                "are computed\n"
            )
            return
        stall = time_limit("--stall-limit", stall_limit)
        make_job = partial(
            job_of, out=folder, options=options, plugins=plugins, device=theirs or device,
            pack=pack, threads=threads, stall=stall, keep_learners=keep_learners,
        )  # fmt: skip
        failed = console.run(
            plan,
            folder,
            where,
            chosen_preset=chosen_preset,
            dry_run=dry_run,
            pack=pack,
            threads=threads,
            command=command_line(),
            keep_learners=keep_learners,
            benches=benches,
            only=only,
            stall=stall,
            executor=executor,
            make_job=make_job,
            in_one=bool(workers or executor_name or own or pack or threads),
        )
        if exported and not dry_run:
            failed |= not _export_finished(plan, folder, exported, where)
        if failed:
            raise typer.Exit(2)


def _next_command(
    written: Path,
    plugins: list[Path],
    machine: Mapping[str, object],
    settings: "Mapping[str, Setting]",
    *,
    keep_learners: bool,
) -> str:
    """Return the command that runs a written plan file with what the file does not hold.

    Args:
        written: the plan file.
        plugins: files of plugins.
        machine: options by their flags, of which those without a value are left out.
        settings: settings of the executor.
        keep_learners: whether learners are kept.
    """
    from unlearnable_bench.options import as_texts

    pairs = [("--plugin", str(file)) for file in plugins]
    pairs += [(flag, str(value)) for flag, value in machine.items() if value]
    pairs += [("--set", f"{key}={as_texts(value)}") for key, value in settings.items()]
    switch = ["--keep-learners"] if keep_learners else []
    return shlex.join(["ubench", "run", str(written), *chain.from_iterable(pairs), *switch])


def _check_export(into: Path, executor: "Executor | None", name: str | None) -> None:
    """Refuse, before any work, an export that cannot be written after it.

    Raises:
        UserError: the cells are not computed by this command, or the place is for no folder.
    """
    from unlearnable_bench.running import export

    if executor and executor.detached:
        raise UserError(
            f"--export does not fit --executor {name}, which computes after this command; leave it "
            "out, and use `ubench export` when the cells are finished"
        )
    export.check(into)


def _export_finished(plan: "Plan", folder: Path, into: Path, device: "torch.device") -> bool:
    """Export the poisons that have a finished cell, name the others; return whether it was all."""
    from unlearnable_bench import api
    from unlearnable_bench.results.store import ResultsFolder
    from unlearnable_bench.running.export import finished_part

    done, left_out = finished_part(plan, ResultsFolder(folder))
    for path in api.export(done, folder, into, device=device):
        sys.stdout.write(f"wrote {path}\n")
    for name in left_out:
        sys.stderr.write(
            f"ubench: --export has left out the images of {printable(name)}, which is not "
            "finished; run the same command again\n"
        )
    return not left_out
