"""The command `ubench`: parses, calls the API, prints."""

import json
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from unlearnable_bench import __version__
from unlearnable_bench.errors import UserError

if TYPE_CHECKING:
    from unlearnable_bench.planning.plan import Plan

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Fill the cache of data sets.")
app.add_typer(data_app, name="data")

_INTERRUPTED = 130  # exit code of a program ended by Ctrl-C

PluginFiles = Annotated[
    list[Path],
    typer.Option("--plugin", metavar="FILE", help="A Python file with plugins; may be repeated."),
]

# What `run` and `correlate` have in common.
Device = Annotated[
    str,
    typer.Option(metavar="NAME", help="cpu, cuda or cuda:1; default: CUDA where there is one."),
]
ResultsOut = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Results folder; default: results/DATASET-PRESET."),
]
Pack = Annotated[
    int | None,
    typer.Option(metavar="COUNT", min=1, help="Cells trained at once; default: 2 on CUDA, else 1."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the plan and a time estimate without running it."),
]


def _selection(what: str) -> Any:
    return typer.Option(metavar="NAMES", help=f"Only these {what}, by comma.")


def _text(metavar: str, meaning: str) -> Any:
    return typer.Option(metavar=metavar, help=meaning)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"ubench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A benchmark suite for availability poisoning (unlearnable examples)."""


@app.command("run")
def run_command(
    plan_path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PLAN.toml",
            help="Plan file: keys are the long names of the options below, settings are in [set]. "
            "An option on the command line replaces the file's; --set replaces single settings.",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[str | None, _text("NAMES", "Comma-separated attacks, e.g. sem,rem.")] = None,
    rho_a: Annotated[
        str | None,
        _text("RADII", "Radii of adversarial training; 0, the default, is normal training."),
    ] = None,
    rho_u: Annotated[
        str | None, _text("RADII", "Radii of the noise; default: each attack's own, 8/255.")
    ] = None,
    dataset: Annotated[
        str | None, _text("NAME", "A name, or NAME:PATH as npz:FILE; default: the preset's.")
    ] = None,
    preset: Annotated[
        str | None, _text("NAME", "smoke, fast or paper; default: fast on CUDA, else smoke.")
    ] = None,
    learners: Annotated[
        str | None, _text("NAMES", "Comma-separated learners; default: the preset's.")
    ] = None,
    surrogate: Annotated[
        str | None, _text("NAME", "Learner that makes the noise; default: the preset's.")
    ] = None,
    defenses: Annotated[
        str | None,
        _text("NAMES", "Comma-separated defenses; jpeg+cutmix applies both; default: none."),
    ] = None,
    protect: Annotated[
        str | None, _text("SHARES", "Shares of the images that are protected: 0.2,0.8; default: 1.")
    ] = None,
    protect_classes: Annotated[
        str | None, _text("NAMES", "Protect these classes only: cat,dog.")
    ] = None,
    seeds: Annotated[
        str | None, _text("NUMBERS", "Seeds of noise and training: 0,1,2 or 0-4; default: 0.")
    ] = None,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME.OPTION=VALUE",
            help="Value of an option, as sem.steps=2000; may be repeated. NAME: an attack, "
            "defense, learner or data set (`ubench list KIND --verbose`), training, or "
            "adversarial (training at rho_a above 0). Several values, as jpeg.quality=90,50, make "
            "one variant of the attack, defense or learner each.",
        ),
    ] = [],  # noqa: B006 - typer copies it
    clean: Annotated[
        bool | None,
        typer.Option("--clean/--no-clean", help="Run the clean control too; default: --clean."),
    ] = None,
    precision: Annotated[
        str | None, _text("NAME", "bf16, fp32 or fp64; default: the preset's.")
    ] = None,
    device: Device = "",
    out: ResultsOut = None,
    pack: Pack = None,
    plugins: PluginFiles = [],  # noqa: B006
    dry_run: DryRun = False,
    written: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="FILE", help="Write the plan to a new plan file, e.g. grid.toml."
        ),
    ] = None,
) -> None:
    """Generate noise, train learners on it, and print what came of it.

    Example: ubench run --methods sem,rem --rho-a 4/255

    Example: ubench run grid.toml --seeds 0-4

    What the results folder holds already is not computed again.
    """
    from unlearnable_bench import api, console  # noqa: PLC0415 - `--help`: no torch
    from unlearnable_bench.planning import plan_file  # noqa: PLC0415
    from unlearnable_bench.running.environment import pick_device  # noqa: PLC0415

    line = {
        "methods": methods, "rho-a": rho_a, "rho-u": rho_u, "dataset": dataset, "preset": preset,
        "learners": learners, "surrogate": surrogate, "defenses": defenses, "protect": protect,
        "protect-classes": protect_classes, "seeds": seeds, "clean": clean, "precision": precision,
        "set": _settings(settings, several=True),
    }  # fmt: skip
    given = {name: value for name, value in line.items() if value is not None}
    asked = plan_file.merged(plan_file.read(plan_path) if plan_path else {}, given)
    if "methods" not in asked:
        raise UserError("give --methods, such as --methods sem,rem, or a plan file that has them")
    _load(plugins)
    where = pick_device(device or None)
    chosen_preset = bool(asked.get("preset"))
    if not chosen_preset:
        asked["preset"] = "fast" if where.type == "cuda" else "smoke"
    plan = api.make_plan(**plan_file.arguments(asked, "--"))
    if written:
        plan_file.write(written, asked)
        again = shlex.join(["ubench", "run", str(written), *_repeated("--plugin", plugins)])
        typer.echo(f"plan file {written} is written; run it: {again}")
    folder = out or _usual_folder(plan)
    failed = console.run(
        plan,
        folder,
        where,
        chosen_preset=chosen_preset,
        dry_run=dry_run,
        pack=pack,
        command=_typed(),
    )
    if failed:
        raise typer.Exit(2)


@app.command("correlate")
def correlate_command(
    surrogate_rho_a: Annotated[
        str, _text("RADII", "Radii of the surrogate's adversarial training, one variant each.")
    ] = "0,1/255,2/255,3/255,4/255",
    noise: Annotated[
        str,
        _text(
            "NAMES",
            "Perturbations of the noise phase, one variant each: none, uniform, pgd or gaussian, "
            "each with its radius, as pgd:2/255; default radius: that of --rho-a.",
        ),
    ] = "none,uniform",
    stops: Annotated[
        str, _text("NUMBERS", "Updates at which the noise is taken besides the last: 500,1000.")
    ] = "",
    method: Annotated[
        str, _text("NAME", "sem or rem: whose other options the variants have.")
    ] = "sem",
    rho_a: Annotated[
        str, _text("RADIUS", "Radius of adversarial training, and of the attack that measures.")
    ] = "4/255",
    dataset: Annotated[
        str | None, _text("NAME", "A name, or NAME:PATH as npz:FILE; default: the preset's.")
    ] = None,
    preset: Annotated[
        str | None, _text("NAME", "smoke, fast or paper; default: fast on CUDA, else smoke.")
    ] = None,
    seeds: Annotated[
        str | None, _text("NUMBERS", "Seeds of noise and training: 0,1,2 or 0-4; default: 0.")
    ] = None,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="NAME.OPTION=VALUE", help="An option, as sem.steps=1000; as for run."
        ),
    ] = [],  # noqa: B006
    device: Device = "",
    out: ResultsOut = None,
    pack: Pack = None,
    dry_run: DryRun = False,
) -> None:
    """Relate the robustness of surrogates and noises to protection (SEM paper, Figure 3).

    Example: ubench correlate --surrogate-rho-a 0,2/255,4/255 --noise none,uniform,pgd

    Makes a family of noises, trains on each, measures how robust it and its surrogate are, and
    prints the correlations. What the results folder holds already is not computed again.
    """
    from unlearnable_bench import console  # noqa: PLC0415
    from unlearnable_bench.planning import plan_file  # noqa: PLC0415
    from unlearnable_bench.planning.correlation import Noise, make_correlation_plan  # noqa: PLC0415
    from unlearnable_bench.running.environment import pick_device  # noqa: PLC0415

    where = pick_device(device or None)
    asked = {
        "methods": method, "dataset": dataset, "seeds": seeds, "set": _settings(settings),
        "preset": preset or ("fast" if where.type == "cuda" else "smoke"),
        "rho-a": rho_a,
    }  # fmt: skip
    rest = plan_file.arguments({k: v for k, v in asked.items() if v is not None}, "--")
    del rest["methods"]
    radii = rest.pop("rho_a")
    if len(radii) != 1:
        raise UserError(f"--rho-a {rho_a}: one radius, such as 4/255")
    plan = make_correlation_plan(
        surrogate_rho_a=plan_file.arguments({"rho-a": surrogate_rho_a}, "--surrogate-")["rho_a"],
        noises=[Noise.parse(part) for part in noise.split(",")],
        rho_a=radii[0],
        stops=_whole_numbers("--stops", stops),
        method=method,
        **rest,
    )
    failed = console.run(
        plan,
        out or _usual_folder(plan),
        where,
        chosen_preset=bool(preset),
        dry_run=dry_run,
        pack=pack,
        command=_typed(),
    )
    if failed:
        raise typer.Exit(2)


@app.command("report")
def report_command(
    folders: Annotated[list[Path], typer.Argument(help="Results folders.")],
    report: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="A report (`ubench list reports`); default: the main tables.",
        ),
    ] = "",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Tables: markdown (default), latex, csv or html. Figures: pdf (default), png or "
            "svg. Without --report also csv and json (one row per group of seeds) and html (the "
            "page).",
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File to write; with --all the folder, default: report."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Write every report in every format into a folder.")
    ] = False,
    plan: Annotated[
        str, typer.Option(metavar="KEY", help="Only the cells of this plan, as `run` prints it.")
    ] = "",
    datasets: Annotated[str, _selection("data sets")] = "",
    methods: Annotated[str, _selection("methods, rows in this order")] = "",
    learners: Annotated[str, _selection("learners")] = "",
    defenses: Annotated[str, _selection("defenses")] = "",
    rho_a: Annotated[str, _selection("radii of adversarial training")] = "",
    rho_u: Annotated[str, _selection("radii of the noise")] = "",
    presets: Annotated[str, _selection("presets")] = "",
    seeds: Annotated[str, _selection("seeds")] = "",
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="OPTION=VALUE",
            help="An option of the report or the format, such as digits=2; may be repeated.",
        ),
    ] = [],  # noqa: B006
    plugins: PluginFiles = [],  # noqa: B006
) -> None:
    """Print or write tables, figures and the page of one or more results folders.

    Example: ubench report results/shapes-smoke --format latex

    Example: ubench report results/shapes-smoke --all --output report
    """
    from unlearnable_bench import reporting  # noqa: PLC0415

    _load(plugins)
    wanted = {
        "dataset": datasets, "attack": methods, "learner": learners, "defense": defenses,
        "rho_a": rho_a, "rho_u": rho_u, "preset": presets, "seed": seeds,
    }  # fmt: skip
    selection = {name: _names(text) for name, text in wanted.items() if text}
    options = _settings(settings)
    if everything and (report or form or options):
        raise UserError("--all writes every report: leave --report, --format and --set out")
    frame = reporting.load(folders, plan, selection)
    if everything:
        reporting.write_all(frame, output or Path("report"))
    else:
        reporting.write_one(frame, report or None, form or None, output, options)


@app.command("compare")
def compare_command(
    first: Annotated[Path, typer.Argument(help="A results folder.")],
    second: Annotated[Path, typer.Argument(help="Another: of another preset, machine, author.")],
) -> None:
    """Print the cells that two results folders have in common, and whether they rank alike.

    Example: ubench compare results/cifar10-fast results/cifar10-paper
    """
    from unlearnable_bench import console  # noqa: PLC0415

    console.comparison(first, second)


@app.command("list")
def list_command(
    kind: Annotated[
        str, typer.Argument(help="attacks, defenses, learners, datasets, reports or presets.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Their options too.")] = False,
    plugins: PluginFiles = [],  # noqa: B006
) -> None:
    """List what can be run, with options.

    Example: ubench list attacks --verbose
    """
    from unlearnable_bench.listing import listing, print_listing  # noqa: PLC0415

    _load(plugins)
    entries = listing(kind, options=verbose or as_json)
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
    else:
        print_listing(entries)


@app.command("bench")
def bench_command(
    device: Device = "",
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
    growth: Annotated[
        bool,
        typer.Option(
            "--growth", help="How cost grows with samples, steps, size, width, images instead."
        ),
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --growth, draw it too: .png, .pdf or .svg."),
    ] = None,
    without: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Techniques of the GPU's fast path to leave out (docs/performance.md).",
        ),
    ] = "",
) -> None:
    """Time the harness on this device, next to eager fp32 PyTorch in the same run.

    Example: ubench bench
    """
    from unlearnable_bench.running.environment import pick_device  # noqa: PLC0415
    from unlearnable_bench.timing import printing  # noqa: PLC0415

    if growth and without:
        raise UserError("--without changes what `ubench bench` times, not --growth: leave one out")
    if figure and not growth:
        raise UserError("--figure draws how cost grows: add --growth")
    where = pick_device(device or None)
    if growth:
        interrupted = printing.growth(where, as_json=as_json, figure=figure)
    else:
        interrupted = printing.bench(where, as_json=as_json, without=_names(without))
    if interrupted:
        sys.exit(_INTERRUPTED)


@data_app.command("import")
def import_command(
    name: Annotated[str, typer.Argument(help="The data set: cifar10, cifar100 or svhn.")],
    file: Annotated[
        Path,
        typer.Argument(help="An .npz file with x_train, y_train, x_test, y_test, class_names."),
    ],
) -> None:
    """Fill the cache of a data set from a local file.

    Example: ubench data import cifar10 cifar10.npz
    """
    from unlearnable_bench.datasets.cache import import_npz  # noqa: PLC0415

    typer.echo(f"{name} is ready in {import_npz(name, file)}")


def main() -> NoReturn:
    """Run the command line; what the user can mend is one line on stderr and exit code 2."""
    try:
        code: Any = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except OSError as error:  # a path that cannot be written, a full disk
        _fail(f"{error.filename or 'file'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        # typer's own errors; their class has moved between its versions.
        if not hasattr(error, "format_message"):
            raise
        _fail(f"{error.format_message()} (ubench --help)")
    if code == _INTERRUPTED:  # some versions of typer return it instead of raising
        typer.echo(
            "interrupted; what is finished is kept: run the same command again to continue",
            err=True,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    from unlearnable_bench.reports._text import printable  # noqa: PLC0415

    typer.echo(f"ubench: {printable(message)}", err=True)
    sys.exit(2)


def _load(plugins: list[Path]) -> None:
    from unlearnable_bench.planning.registry import load_plugin_file  # noqa: PLC0415

    for path in plugins:
        load_plugin_file(path)


def _typed() -> str:
    """Return the command line, to be noted with the plan that it makes."""
    return shlex.join(["ubench", *sys.argv[1:]])


def _names(text: str) -> list[str]:
    """Split a list by commas, but not within the brackets of a label."""
    from unlearnable_bench.results.names import outside_brackets  # noqa: PLC0415

    return [part.strip() for part in outside_brackets(text, ",")] if text else []


def _whole_numbers(flag: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise UserError(f"{flag} {text!r}: write whole numbers by comma, such as 500,1000")
    return [int(part) for part in parts]


def _usual_folder(plan: "Plan") -> Path:
    labels = plan.data.name.replace(":", "-"), plan.preset_label
    return Path("results") / "-".join(label.partition("[")[0] for label in labels)


def _settings(items: list[str], *, several: bool = False) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, equals, value in (item.partition("=") for item in items):
        if not (key and equals and value):
            raise UserError(f"--set {key}: write OPTION=VALUE, such as sem.steps=2000")
        if key in found:
            hint = f"several values by comma: --set {key}={found[key]},{value}"
            raise UserError(f"--set {key} is given twice: write {hint if several else 'it once'}")
        found[key] = value
    return found


def _repeated(flag: str, values: Iterable[object]) -> Iterator[str]:
    for value in values:
        yield from (flag, str(value))
