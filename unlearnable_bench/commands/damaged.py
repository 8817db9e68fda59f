"""Damaged files that a command meets: named at its end, which is then one with exit code 2."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from unlearnable_bench.reports._text import printable
from unlearnable_bench.storage import damage


@contextmanager
def damage_named() -> Iterator[None]:
    """Name on stderr, after the work inside, each damaged file that it has met.

    Raises:
        typer.Exit: the work has ended well, but a file was damaged.
    """
    with damage.collected() as lines:
        try:
            yield
        finally:
            error = str(sys.exc_info()[1])
            for line in lines:
                if line.partition(" is damaged")[0] not in error:  # which is printed anyway
                    sys.stderr.write(f"ubench: {printable(line)}\n")
    if lines:
        raise typer.Exit(2)
