"""`ubench data`: the cache of data sets."""

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(help="Import data sets into the cache.")


@data_app.callback()
def _group() -> None:
    """Keep `import` a command of its own while it is the only one."""


@data_app.command("import")
def import_file(
    name: Annotated[str, typer.Argument(help="Data set: cifar10, cifar100 or svhn.")],
    file: Annotated[
        Path,
        typer.Argument(help="An .npz file with x_train, y_train, x_test, y_test, class_names."),
    ],
) -> None:
    """Import a data set from an .npz file instead of downloading it.

    Example: ubench data import cifar10 cifar10.npz
    """
    from unlearnable_bench.datasets.cache import import_npz

    typer.echo(f"imported {name} into {import_npz(name, file)}")
