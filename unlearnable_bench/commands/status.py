"""`ubench status` and `ubench show`: what a results folder holds."""

import json
import sys
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import AsJson, Debug, Folder, Key
from unlearnable_bench.commands.damaged import damage_named


def status(folder: Folder, as_json: AsJson = False, _debug: Debug = False) -> None:
    """Print what a results folder holds, lacks and computes.

    Example: ubench status results/shapes-smoke

    Running work has its process, host and time, and the step of its last checkpoint. Each plan has
    the command that made it.
    """
    from unlearnable_bench.curation.status import status_of
    from unlearnable_bench.screen.curating import print_status

    with damage_named():
        found = status_of(folder)
        if as_json:
            sys.stdout.write(json.dumps(found.as_json(), indent=1) + "\n")
        else:
            print_status(found)


def show(
    folder: Folder,
    key: Key,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole file as JSON.")] = False,
    _debug: Debug = False,
) -> None:
    """Print one record, failure, poison, measurement or plan.

    Example: ubench show results/shapes-smoke 3f2a
    """
    from unlearnable_bench.curation.showing import content_of, lines_of
    from unlearnable_bench.screen.terminal import say, terminal

    kind, content = content_of(folder, key)
    if as_json:
        sys.stdout.write(json.dumps(content, indent=1) + "\n")
        return
    out = terminal()
    for name, text in lines_of(kind, content):
        for number, line in enumerate(text.split("\n")):
            say(out, line, prefix=f"{'' if number else name:20} ")
