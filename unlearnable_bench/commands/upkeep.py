"""`ubench verify`, `rm`, `archive` and `merge`: care of results folders."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import (
    AsJson,
    Debug,
    Folder,
    split_names,
    text_option,
)
from unlearnable_bench.commands.completion import names_of
from unlearnable_bench.commands.damaged import damage_named
from unlearnable_bench.errors import UserError


def verify(folder: Folder, as_json: AsJson = False, _debug: Debug = False) -> None:
    """Check every file of a results folder.

    Example: ubench verify results/shapes-smoke

    Changes nothing. A damaged file is named, and the exit code is 2. A run that needs it sets it
    aside and makes it again.
    """
    from unlearnable_bench.curation.verifying import verify as verdict_of
    from unlearnable_bench.screen.curating import print_verdict

    verdict = verdict_of(folder)
    if as_json:
        sys.stdout.write(json.dumps(verdict.as_json(), indent=1) + "\n")
    else:
        print_verdict(verdict)
    if verdict.damaged:
        raise typer.Exit(2)


def remove(
    folder: Folder,
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            "--attack",
            metavar="NAMES",
            help="Comma-separated methods to remove; sem removes sem[steps=500] too.",
            autocompletion=names_of("attacks", ","),
        ),
    ] = "",
    learners: Annotated[str, text_option("NAMES", "Comma-separated learners to remove.")] = "",
    defenses: Annotated[str, text_option("NAMES", "Comma-separated defenses to remove.")] = "",
    rho_a: Annotated[str, text_option("RADII", "Comma-separated radii of training.")] = "",
    rho_u: Annotated[str, text_option("RADII", "Comma-separated radii of the noise.")] = "",
    presets: Annotated[str, text_option("NAMES", "Comma-separated presets to remove.")] = "",
    seeds: Annotated[str, text_option("NUMBERS", "Comma-separated seeds to remove.")] = "",
    noise_seeds: Annotated[
        str, text_option("NUMBERS", "Comma-separated seeds of the noise to remove.")
    ] = "",
    keys: Annotated[str, text_option("KEYS", "Comma-separated keys, or their first digits.")] = "",
    failed: Annotated[
        bool,
        typer.Option(
            "--failed",
            help="Only failed cells without a record; alone or with --keys, failed measurements of "
            "robustness too.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them; without it, they are only listed.")
    ] = False,
    _debug: Debug = False,
) -> None:
    """Remove cells; without --yes, list them.

    Example: ubench rm results/shapes-smoke --attack sem --yes

    Options are combined: cells that match all of them. Poisons that no other record was trained on
    go too. Cells that are being computed are left alone.
    """
    from unlearnable_bench.curation.removal import removal_of
    from unlearnable_bench.curation.removal import remove as remove_files
    from unlearnable_bench.curation.selection import keys_of
    from unlearnable_bench.screen.curating import print_removal

    wanted = {
        "attack": methods, "learner": learners, "defense": defenses, "rho_a": rho_a,
        "rho_u": rho_u, "preset": presets, "seed": seeds,
        "noise_seed": noise_seeds,
    }  # fmt: skip
    selection = {name: split_names(text) for name, text in wanted.items() if text}
    if not (selection or keys or failed):
        raise UserError("say which cells to remove, such as --attack sem, --keys 3f2a or --failed")
    with damage_named():
        chosen = keys_of(folder, selection, split_names(keys), failed=failed)
        removal = removal_of(folder, chosen)
        if yes:
            remove_files(folder, removal)
        print_removal(removal, done=yes)


def archive(
    folder: Folder,
    file: Annotated[
        Path, typer.Argument(help="Archive to write, ending in .tar, .tar.gz or .tar.xz.")
    ],
    records_only: Annotated[
        bool,
        typer.Option(
            "--records-only", help="Leave out poisons, networks and samples; tables need none."
        ),
    ] = False,
    _debug: Debug = False,
) -> None:
    """Write a results folder to one file.

    Example: ubench archive results/shapes-smoke results.tar.gz
    """
    from unlearnable_bench.curation.transfer import archive as write_archive
    from unlearnable_bench.screen.curating import counted
    from unlearnable_bench.storage.disk import bytes_text

    with damage_named():
        found = write_archive(folder, file, records_only=records_only)
        sys.stdout.write(f"wrote {file}: {counted(found)}, {bytes_text(file.stat().st_size)}\n")


def merge(
    folder: Annotated[Path, typer.Argument(help="Results folder to add to, made if missing.")],
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|FOLDER...", help="Archives or results folders to add."),
    ],
    _debug: Debug = False,
) -> None:
    """Add other folders or archives to a results folder.

    Example: ubench merge results/all results/machine1 machine2.tar.gz

    Each file is checked. Results that the folder has already are kept; one that differs is named,
    and the exit code is 2.
    """
    from unlearnable_bench.curation.transfer import merge as add
    from unlearnable_bench.reports._text import printable
    from unlearnable_bench.screen.curating import counted

    differs = False
    with damage_named():
        for source in sources:
            merged = add(folder, source)
            sys.stdout.write(
                printable(f"{source}: added {counted(merged.added)}; {merged.same} there already")
                + "\n"
            )
            for line in merged.differing:  # before the next source, which may be refused
                sys.stderr.write(f"ubench: {printable(line)}\n")
                differs = True
    if differs:
        raise typer.Exit(2)
