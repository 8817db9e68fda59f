"""`ubench list`: plugins and presets, with their options."""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import AsJson, Debug, PluginFiles, load_plugins
from unlearnable_bench.commands.completion import words


def list_kind(
    kind: Annotated[
        str,
        typer.Argument(
            help="Kind: attacks, defenses, learners, datasets, reports, executors or presets.",
            autocompletion=words(
                "attacks", "defenses", "learners", "datasets", "reports", "executors", "presets"
            ),
        ),
    ],
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print the options of each.")] = False,
    plugins: PluginFiles = [],  # noqa: B006 - typer copies it
    _debug: Debug = False,
) -> None:
    """List plugins of a kind, such as attacks, or presets.

    Example: ubench list attacks --verbose
    """
    from unlearnable_bench.screen.listing import listing, print_listing

    load_plugins(plugins)
    entries = listing(kind, options=verbose or as_json)
    if as_json:
        sys.stdout.write(json.dumps([asdict(entry) for entry in entries], indent=1) + "\n")
    else:
        print_listing(entries)
