"""`ubench learners`: the trained learners that a results folder keeps."""

from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import AsJson, Debug
from unlearnable_bench.commands.damaged import damage_named


def learners(
    folder: Annotated[Path, typer.Argument(help="Results folder.")],
    as_json: AsJson = False,
    _debug: Debug = False,
) -> None:
    """List the learners that a results folder keeps.

    Example: ubench learners results/shapes-smoke

    `ubench run --keep-learners` keeps them. A file is learners/KEY.safetensors in the folder.
    """
    from unlearnable_bench.screen.kept import print_learners

    with damage_named():
        print_learners(folder, as_json=as_json)
