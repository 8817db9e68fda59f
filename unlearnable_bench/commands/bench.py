"""`ubench bench`: how fast the harness is on this device."""

from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import (
    AsJson,
    Debug,
    Device,
    Threads,
    split_names,
    text_option,
)
from unlearnable_bench.errors import UserError
from unlearnable_bench.running import interruption


def bench(
    device: Device = "",
    threads: Threads = None,
    as_json: AsJson = False,
    growth: Annotated[
        bool,
        typer.Option(
            "--growth",
            help="Time how the cost grows with EOT samples, steps, image size, network width and "
            "the number of images instead.",
        ),
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Figure of --growth to write, with the ending .png, .pdf or .svg."
        ),
    ] = None,
    without: Annotated[
        str,
        text_option(
            "NAMES",
            "Comma-separated techniques of the GPU fast path to leave out (docs/performance.md).",
        ),
    ] = "",
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Output of an earlier `ubench bench --json`: print this run's time and memory "
            "of each job divided by those of the file.",
        ),
    ] = None,
    _debug: Debug = False,
) -> None:
    """Time attack and training steps on this device.

    Example: ubench bench

    Each step is timed as a run computes it and in eager fp32 PyTorch. Then what a run does once
    with a whole set is timed: drawing noise, adding, checking, hashing and saving it.
    """
    from unlearnable_bench.running.environment import pick_device
    from unlearnable_bench.running.threads import use_threads
    from unlearnable_bench.timing import printing

    if growth and without:
        raise UserError("--growth and --without cannot be combined; omit one of them")
    if growth and against:
        raise UserError("--against compares steps, not --growth; omit one of them")
    if figure and not growth:
        raise UserError("--figure draws what --growth measures; add --growth")
    where = pick_device(device or None)
    use_threads(threads)
    if growth:
        interrupted = printing.growth(where, as_json=as_json, figure=figure)
    else:
        interrupted = printing.bench(
            where, as_json=as_json, without=split_names(without), against=against
        )
    if interrupted:
        raise typer.Exit(interruption.last().code)
