"""`ubench data`: the cache of data sets."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import Debug
from unlearnable_bench.commands.completion import words

data_app = typer.Typer(help="Import data sets into the cache.")


@data_app.callback()
def _group() -> None:
    """Keep `import` a command of its own while it is the only one."""


@data_app.command("import")
def import_file(
    name: Annotated[
        str,
        typer.Argument(
            help="Data set: cifar10, cifar100 or svhn.",
            autocompletion=words("cifar10", "cifar100", "svhn"),
        ),
    ],
    file: Annotated[
        Path,
        typer.Argument(
            help="An .npz file with x_train, y_train, x_test, y_test, class_names; or the binary "
            "edition of CIFAR, or SVHN's .mat files: the archive, the folder, or a file in it."
        ),
    ],
    _debug: Debug = False,
) -> None:
    """Import a data set from local files instead of downloading it.

    CIFAR-10 and CIFAR-100 are compared with the hashes of the official pixels and labels.

    Example: ubench data import cifar10 cifar10.npz
    """
    from unlearnable_bench.datasets.importing import import_data

    path, verdict = import_data(name, file)
    sys.stdout.write(f"imported {name} into {path}: {verdict}\n")
