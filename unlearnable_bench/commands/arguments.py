"""Options that several commands share, and how their texts are read."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearnable_bench import traces
from unlearnable_bench.commands.completion import Complete, names_of
from unlearnable_bench.errors import UserError

if TYPE_CHECKING:
    from unlearnable_bench.planning.plan import Plan


def text_option(metavar: str, meaning: str, complete: Complete | None = None) -> Any:
    """Return an option that takes a text, whose values a shell may complete."""
    return typer.Option(metavar=metavar, help=meaning, autocompletion=complete)


def settings_option(metavar: str, meaning: str) -> Any:
    """Return the option `--set`, which may be repeated."""
    return typer.Option("--set", metavar=metavar, help=meaning)


PluginFiles = Annotated[
    list[Path],
    typer.Option(
        "--plugin", metavar="FILE", help="Python file that defines plugins; may be repeated."
    ),
]
Device = Annotated[
    str,
    text_option("NAME", "Device: cpu, cuda or cuda:1; default: cuda if available, otherwise cpu."),
]
Dataset = Annotated[
    str | None,
    text_option(
        "NAME",
        "Data set, e.g. cifar10, or npz:FILE for your own images; default: the preset's.",
        names_of("datasets"),
    ),
]
PresetName = Annotated[
    str | None,
    text_option(
        "NAME",
        "Training schedules and attack settings: smoke, fast, paper or imagenet; default: fast "
        "on CUDA, otherwise smoke.",
        names_of("presets"),
    ),
]
Seeds = Annotated[
    str | None,
    text_option("NUMBERS", "Seeds of the noise and of training, e.g. 0,1,2 or 0-4; default: 0."),
]
NoiseSeeds = Annotated[
    str | None,
    text_option(
        "NUMBERS",
        "Seeds of the noise, each combined with each of --seeds, e.g. 0,1; default: each noise has "
        "the seed of its learner.",
    ),
]
ResultsOut = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Results folder, made if missing; default: results/DATASET-PRESET."
    ),
]
Pack = Annotated[
    int | None,
    typer.Option(
        metavar="COUNT",
        min=1,
        help="Number of cells trained at the same time; default: 2 on CUDA, otherwise 1.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="COUNT",
        min=1,
        max=1024,
        help="Number of threads on the CPU, on which results there depend in the last digits; "
        "default: OMP_NUM_THREADS, otherwise the cores that affinity, CPU quotas and "
        "SLURM_CPUS_PER_TASK allow.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the plan and a time estimate without running it."),
]
Benches = Annotated[
    list[Path],
    typer.Option(
        "--bench",
        metavar="FILE",
        help="Output of `ubench bench --json` on a card, for which --dry-run estimates the time; "
        "may be repeated.",
    ),
]
STALL_LIMIT = "24h"
StallLimit = Annotated[
    str,
    text_option(
        "TIME",
        "Time without a step of a loop, e.g. 90s, 30m or 2h, after which a cell counts as hanging: "
        "it is ended and marked as failed; 0: never.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=traces.show,
        is_eager=True,
        help="Print the traceback of every error, e.g. of a plugin's code.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


Folder = Annotated[Path, typer.Argument(help="Results folder.")]
Key = Annotated[
    str,
    typer.Argument(help="Key of a cell, poison or plan (`ubench status`), or its first digits."),
]
RecordedDataset = Annotated[
    str | None,
    text_option("NAME", "Data set, e.g. npz:FILE, if the record cannot name its path."),
]
RecordedMethod = Annotated[
    str | None,
    text_option("NAME", "Attack, e.g. file:FILE, if the record cannot name its path."),
]


def load_plugins(files: list[Path]) -> None:
    """Register the plugins of each file."""
    from unlearnable_bench.planning.registry import load_plugin_file

    for path in files:
        load_plugin_file(path)


def command_line() -> str:
    """Return the command line as typed, to be stored with the plan that it makes."""
    return shlex.join(["ubench", *sys.argv[1:]])


def refuse_without_dry_run(benches: list[Path], *, as_json: bool, dry_run: bool) -> None:
    """Refuse options that only change what `--dry-run` prints.

    Raises:
        UserError: names the option.
    """
    given = {"--bench": bool(benches), "--json": as_json}
    for flag in (flag for flag, is_given in given.items() if is_given and not dry_run):
        raise UserError(f"{flag} changes what --dry-run prints; add --dry-run or omit {flag}")


def time_limit(flag: str, text: str) -> tuple[str, float] | None:
    """Return a time as given and in seconds; None for 0.

    Raises:
        UserError: a text without a unit, or that is not a time.
    """
    number, unit = text[:-1], text[-1:]
    if text == "0":
        return None
    if not (number.isdecimal() and len(number) < 7 and unit in _SECONDS and int(number)):
        raise UserError(f"{flag} {text!r}: give a time such as 90s, 30m or 2h, or 0 for no limit")
    return text, float(int(number) * _SECONDS[unit])


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def split_names(text: str) -> list[str]:
    """Split a list at commas, but not within the brackets of a label."""
    from unlearnable_bench.results.names import outside_brackets

    return [part.strip() for part in outside_brackets(text, ",")] if text else []


def whole_numbers(flag: str, text: str) -> list[int]:
    """Return comma-separated whole numbers.

    Raises:
        UserError: a part that is not a whole number below 10^9.
    """
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise UserError(
            f"{flag} {text!r}: give comma-separated whole numbers, such as {flag} 500,1000"
        )
    return [int(part) for part in parts]


def default_folder(plan: "Plan") -> Path:
    """Return `results/DATASET-PRESET`, without what is in the brackets of a label."""
    labels = plan.data.name.replace(":", "-"), plan.preset_label
    return Path("results") / "-".join(label.partition("[")[0] for label in labels)


def _takes_several(key: str) -> bool:
    """Return whether an option may have several values: it is a plugin's, and not a text."""
    from unlearnable_bench.planning.registry import attacks, defenses, learners

    section, _, name = key.partition(".")
    for kind in (attacks, defenses, learners):
        if section in kind.names():
            types = {option.name: option.type for option in kind.get(section).options()}
            return types.get(name, "str").partition("|")[0] != "str"
    return False


def parse_settings(items: list[str], *, several: bool = False) -> dict[str, str]:
    """Return the settings of repeated `--set NAME=VALUE` as a dict.

    Args:
        items: what follows each `--set`.
        several: whether an option may have several values, separated by commas.

    Raises:
        UserError: an item without name or value, or a name that is given twice.
    """
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise UserError(f"--set {item}: write OPTION=VALUE, such as sem.steps=2000")
        if key in found:
            both = f"--set {key}={found[key]},{value}"
            hint = f", with several values as {both}" if several and _takes_several(key) else ""
            raise UserError(f"--set {key} is given twice: give it once{hint}")
        found[key] = value
    return found
