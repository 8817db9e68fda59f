"""`ubench protect`: from a folder of pictures to a folder that may be published."""

from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import (
    Debug,
    Device,
    PluginFiles,
    Threads,
    load_plugins,
    parse_settings,
    settings_option,
    text_option,
)
from unlearnable_bench.commands.completion import names_of, words
from unlearnable_bench.errors import UserError


def protect(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder of pictures: DIR/CLASS/*, or any with --labels or --person.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR2",
            help="Folder of the protected pictures, made if missing. The report and the state of "
            "the work go to DIR2-report.",
        ),
    ],
    method: Annotated[
        str | None,
        text_option(
            "NAME",
            "Attack that makes the noise; default: class-tiles, which needs no network.",
            names_of("attacks"),
        ),
    ] = None,
    strength: Annotated[
        str, text_option("RADIUS", "Largest change of a value, e.g. 8/255 or 16/255.")
    ] = "8/255",
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Labels of the pictures: columns file (a path below DIR) and label.",
        ),
    ] = None,
    person: Annotated[
        bool,
        typer.Option(
            "--person",
            help="Take all pictures for one class, a person or a thing; nine classes of generated "
            "textures are the others.",
        ),
    ] = False,
    others: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR3",
            help="Pictures of other people, DIR3/NAME/*, as the other classes of --person; only "
            "read.",
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            min=8,
            max=512,
            help="Working size: height and width at which the noise is made.",
        ),
    ] = 32,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Format of the protected pictures: png, webp (lossless), or jpeg, which loses a "
            "part of the protection.",
            autocompletion=words("png", "webp", "jpeg"),
        ),
    ] = "png",
    quality: Annotated[
        int | None,
        typer.Option(metavar="PERCENT", min=1, max=100, help="Quality of JPEG; default: 95."),
    ] = None,
    keep_metadata: Annotated[
        bool,
        typer.Option(
            "--keep-metadata",
            help="Keep EXIF and XMP, such as camera, time and place; default: removed.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Train small learners on the originals and on the protected pictures, and report "
            "both accuracies.",
        ),
    ] = True,
    learners: Annotated[
        str | None,
        text_option(
            "NAMES",
            "Comma-separated learners of the check; default: small-cnn,resnet8.",
            names_of("learners", ","),
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", min=0, help="Seed of the noise.")] = 0,
    settings: Annotated[
        list[str],
        settings_option(
            "NAME.OPTION=VALUE",
            "Option of the attack, e.g. em.variant=classwise. May be repeated.",
        ),
    ] = [],  # noqa: B006 - typer copies it
    device: Device = "",
    threads: Threads = None,
    plugins: PluginFiles = [],  # noqa: B006
    _debug: Debug = False,
) -> None:
    """Protect a folder of pictures: write a copy with noise that may be published.

    Example: ubench protect photos --out photos-protected

    Example: ubench protect photos --out safe --labels photos.csv --format webp

    The originals are only read. An interrupted command resumes when it is run again.
    """
    from unlearnable_bench import api
    from unlearnable_bench.screen import protecting

    if quality and form != "jpeg":
        raise UserError(
            f"--quality has no effect on --format {form}; add --format jpeg, or omit it"
        )
    if learners and not check:
        raise UserError("--learners has no effect with --no-check; omit one of them")
    load_plugins(plugins)
    with protecting.screen() as shown:
        found = api.protect(
            folder,
            out,
            method=method,
            strength=strength,
            labels=labels,
            person=person,
            others=others,
            size=size,
            form=form,
            quality=quality or 95,
            keep_metadata=keep_metadata,
            check=check,
            learners=learners.split(",") if learners else (),
            seed=seed,
            settings=parse_settings(settings),
            device=device or None,
            threads=threads,
            progress=shown.progress,
            say=shown.say,
            on_cell=shown.done,
        )
    protecting.show(found)
