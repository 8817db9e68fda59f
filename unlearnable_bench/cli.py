"""The command `ubench`: parses, calls the API, prints."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.radius import Radius

app = typer.Typer(
    help="A benchmark suite for availability poisoning (unlearnable examples).",
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


@app.command("run")
def run_command(
    methods: Annotated[str, typer.Option(metavar="NAMES", help="Attacks, by comma: sem,rem.")],
    rho_a: Annotated[
        str, typer.Option(metavar="RADII", help="Radii of adversarial training; 0 trains normally.")
    ] = "0",
    rho_u: Annotated[
        str,
        typer.Option(
            metavar="RADII", help="Radii of the noise; default: each attack's own, 8/255."
        ),
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="A name, or NAME:PATH as npz:FILE; default: the preset's."
        ),
    ] = "",
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="smoke, fast or paper; default: fast on CUDA, else smoke."
        ),
    ] = "",
    learners: Annotated[
        str, typer.Option(metavar="NAMES", help="Learners, by comma; default: the preset's.")
    ] = "",
    surrogate: Annotated[
        str,
        typer.Option(metavar="NAME", help="Learner that makes the noise; default: the preset's."),
    ] = "",
    defenses: Annotated[
        str, typer.Option(metavar="NAMES", help="Defenses, by comma; jpeg+cutmix applies both.")
    ] = "none",
    protect: Annotated[
        str,
        typer.Option(metavar="SHARES", help="Shares of the images that are protected: 0.2,0.8."),
    ] = "1",
    protect_classes: Annotated[
        str, typer.Option(metavar="NAMES", help="Protect these classes only: cat,dog.")
    ] = "",
    seeds: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Seeds of noise and training, by comma.")
    ] = "0",
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME.OPTION=VALUE",
            help="An option, as sem.steps=2000; may be repeated. NAME: an attack, defense, learner "
            "or data set (`ubench list KIND --verbose`), training, or adversarial (training at "
            "rho_a above 0).",
        ),
    ] = [],  # noqa: B006 - typer copies it
    clean: Annotated[bool, typer.Option(help="Run the clean control too.")] = True,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="bf16, fp32 or fp64; default: the preset's.")
    ] = "",
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help="cpu, cuda or cuda:1; default: CUDA where there is one."),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Results folder; default: results/DATASET-PRESET."),
    ] = None,
    pack: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT", min=1, help="Cells trained at once; default: 2 on CUDA, else 1."
        ),
    ] = None,
    plugins: PluginFiles = [],  # noqa: B006
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the plan and about how long it takes; run nothing."),
    ] = False,
) -> None:
    """Generate noise, train learners on it, and print what came of it.

    Example: ubench run --methods sem,rem --rho-a 4/255

    What the results folder holds already is not computed again.
    """
    from unlearnable_bench import api, console  # noqa: PLC0415 - `--help` must not wait for torch
    from unlearnable_bench.environment import pick_device  # noqa: PLC0415

    _load(plugins)
    where = pick_device(device or None)
    plan = api.make_plan(
        methods=_split("--methods", methods),
        rho_a=_radii("--rho-a", rho_a),
        rho_u=_radii("--rho-u", rho_u) if rho_u else (),
        defenses=_split("--defenses", defenses),
        learners=_split("--learners", learners) if learners else (),
        surrogate=surrogate or None,
        dataset=dataset or None,
        preset=preset or ("fast" if where.type == "cuda" else "smoke"),
        seeds=_seeds(seeds),
        precision=precision or None,
        settings=_settings(settings),
        clean=clean,
        protect=_shares(protect),
        protect_classes=_split("--protect-classes", protect_classes) if protect_classes else (),
    )
    labels = plan.data.name.replace(":", "-"), plan.preset_label
    name = "-".join(label.partition("[")[0] for label in labels)
    folder = out or Path("results") / name
    failed = console.run(
        plan, folder, where, chosen_preset=bool(preset), dry_run=dry_run, pack=pack
    )
    if failed:
        raise typer.Exit(2)


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="latex, markdown, csv or json.")
    ] = "markdown",
    plan: Annotated[
        str, typer.Option(metavar="KEY", help="Only the cells of this plan, as `run` prints it.")
    ] = "",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to this file.")] = None,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="OPTION=VALUE", help="An option of the format, as document=true."
        ),
    ] = [],  # noqa: B006
    plugins: PluginFiles = [],  # noqa: B006
) -> None:
    """Print the table of a results folder.

    Example: ubench report results/shapes-smoke --format latex
    """
    from unlearnable_bench import api  # noqa: PLC0415
    from unlearnable_bench.results.store import ResultsFolder  # noqa: PLC0415

    _load(plugins)
    keys = None
    if plan:
        plans = ResultsFolder(folder).plans()
        if plan not in plans:
            raise unknown("plan", plan, plans)
        keys = plans[plan]["cells"]
    frame = api.load_records(folder, keys)
    if keys and len(frame) < len(keys):
        missing = f"{len(keys) - len(frame)} of the plan's {len(keys)} cells"
        typer.echo(f"ubench: {missing} are not finished: run its command again", err=True)
    text = api.render(frame, form, **_settings(settings))
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


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
    from unlearnable_bench import console, registry  # noqa: PLC0415

    _load(plugins)
    if kind not in {*registry.REGISTRIES, "presets"}:
        raise unknown("kind", kind, [*registry.REGISTRIES, "presets"])
    entries = console.listing(kind)
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
    else:
        console.print_listing(entries, verbose=verbose)


@app.command("bench")
def bench_command(
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help="cpu, cuda or cuda:1; default: CUDA where there is one."),
    ] = "",
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
) -> None:
    """Time the harness on this device, beside eager fp32 PyTorch in the same run.

    Example: ubench bench
    """
    from unlearnable_bench import console  # noqa: PLC0415
    from unlearnable_bench.environment import pick_device  # noqa: PLC0415

    if figure and not growth:
        raise UserError("--figure draws how cost grows: add --growth")
    where = pick_device(device or None)
    if growth:
        interrupted = console.growth(where, as_json=as_json, figure=figure)
    else:
        interrupted = console.bench(where, as_json=as_json)
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
    typer.echo(f"ubench: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _load(plugins: list[Path]) -> None:
    from unlearnable_bench.registry import load_plugin_file  # noqa: PLC0415

    for path in plugins:
        load_plugin_file(path)


def _split(flag: str, text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UserError(f"{flag} {text!r}: write names by comma, such as sem,rem")
    return parts


def _radii(flag: str, text: str) -> list[Radius]:
    try:
        return [Radius(part) for part in text.split(",")]
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--protect {text!r}: write shares by comma, such as 0.2,0.8") from None


def _seeds(text: str) -> list[int]:
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise UserError(f"--seeds {text!r}: write whole numbers by comma, such as 0,1,2")
    return [int(part) for part in text.split(",")]


def _settings(items: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in items]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise UserError(f"--set {key}: write OPTION=VALUE, such as sem.steps=2000")
    return {key: value for key, _, value in pairs}
