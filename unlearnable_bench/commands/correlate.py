"""`ubench correlate`: a family of noises, its robustness, and its protection."""

from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import (
    STALL_LIMIT,
    Dataset,
    Debug,
    Device,
    DryRun,
    NoiseSeeds,
    Pack,
    PresetName,
    ResultsOut,
    Seeds,
    StallLimit,
    Threads,
    command_line,
    default_folder,
    parse_settings,
    settings_option,
    text_option,
    time_limit,
    whole_numbers,
)
from unlearnable_bench.commands.completion import words
from unlearnable_bench.commands.damaged import damage_named
from unlearnable_bench.errors import UserError


def correlate(
    surrogate_rho_a: Annotated[
        str,
        text_option(
            "RADII",
            "Comma-separated radii of the surrogate's adversarial training, one variant each.",
        ),
    ] = "0,1/255,2/255,3/255,4/255",
    noise: Annotated[
        str,
        text_option(
            "NAMES",
            "Comma-separated perturbations of the views when the noise is optimised, one variant "
            "each: none, uniform, pgd or gaussian, with a radius, e.g. pgd:2/255, or at that of "
            "--rho-a.",
        ),
    ] = "none,uniform",
    stops: Annotated[
        str,
        text_option(
            "NUMBERS",
            "Comma-separated surrogate updates, e.g. 500,1000, after which the noise is a further "
            "variant; default: only after the last update.",
        ),
    ] = "",
    method: Annotated[
        str, text_option("NAME", "Attack to vary: sem or rem.", words("sem", "rem"))
    ] = "sem",
    rho_a: Annotated[
        str,
        text_option(
            "RADIUS",
            "Radius of the learners' adversarial training and of the PGD attack that measures "
            "robustness.",
        ),
    ] = "4/255",
    dataset: Dataset = None,
    preset: PresetName = None,
    seeds: Seeds = None,
    noise_seeds: NoiseSeeds = None,
    settings: Annotated[
        list[str],
        settings_option(
            "NAME.OPTION=VALUE",
            "Option as in `ubench run`, e.g. sem.steps=1000; may be repeated.",
        ),
    ] = [],  # noqa: B006 - typer copies it
    device: Device = "",
    out: ResultsOut = None,
    pack: Pack = None,
    threads: Threads = None,
    stall_limit: StallLimit = STALL_LIMIT,
    dry_run: DryRun = False,
    _debug: Debug = False,
) -> None:
    """Correlate robustness with protection (SEM paper, Figure 3).

    Example: ubench correlate --surrogate-rho-a 0,2/255,4/255 --noise none,uniform,pgd

    Generates a family of noises, trains learners on each, measures the robustness of each noise
    and of its surrogate, and prints the correlations. Finished cells in the results folder are
    reused.
    """
    from unlearnable_bench.planning import plan_file
    from unlearnable_bench.planning.correlation import Noise, make_correlation_plan
    from unlearnable_bench.presets import default_preset
    from unlearnable_bench.running.environment import pick_device
    from unlearnable_bench.screen import console

    where = pick_device(device or None)
    options = {
        "methods": method, "dataset": dataset, "seeds": seeds, "noise-seeds": noise_seeds,
        "set": parse_settings(settings), "preset": preset or default_preset(where.type),
        "rho-a": rho_a,
    }  # fmt: skip
    rest = plan_file.arguments({k: v for k, v in options.items() if v is not None}, "--")
    del rest["methods"]
    radii = rest.pop("rho_a")
    if len(radii) != 1:
        raise UserError(f"--rho-a takes one radius, such as 4/255, got {rho_a}")
    with damage_named():
        plan = make_correlation_plan(
            surrogate_rho_a=plan_file.arguments({"rho-a": surrogate_rho_a}, "--surrogate-")[
                "rho_a"
            ],
            noises=[Noise.parse(part) for part in noise.split(",")],
            rho_a=radii[0],
            stops=whole_numbers("--stops", stops),
            method=method,
            **rest,
        )
        failed = console.run(
            plan,
            out or default_folder(plan),
            where,
            chosen_preset=bool(preset),
            dry_run=dry_run,
            pack=pack,
            threads=threads,
            command=command_line(),
            stall=time_limit("--stall-limit", stall_limit),
        )
        if failed:
            raise typer.Exit(2)
