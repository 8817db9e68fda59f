"""`ubench autoattack`: robust accuracy of a kept learner."""

from pathlib import Path
from typing import Annotated

import typer

from unlearnable_bench.commands.arguments import (
    AsJson,
    Debug,
    Device,
    PluginFiles,
    Threads,
    load_plugins,
    parse_settings,
    settings_option,
    text_option,
)
from unlearnable_bench.commands.completion import names_of
from unlearnable_bench.commands.damaged import damage_named


def autoattack(
    folder: Annotated[Path, typer.Argument(help="Results folder.")],
    key: Annotated[
        str, typer.Argument(help="Key of the learner's cell, or its beginning (`ubench learners`).")
    ],
    rho: Annotated[str, text_option("RADIUS", "L-infinity radius of the attack.")] = "8/255",
    images: Annotated[
        int,
        typer.Option(
            metavar="COUNT", min=1, help="Number of test images, a seeded choice; at most all."
        ),
    ] = 1000,
    seed: Annotated[
        int, typer.Option(metavar="NUMBER", min=0, help="Seed of the images and the attacks.")
    ] = 0,
    dataset: Annotated[
        str | None,
        text_option(
            "NAME",
            "Data set of the cell, e.g. npz:FILE; default: that of its name.",
            names_of("datasets"),
        ),
    ] = None,
    settings: Annotated[
        list[str],
        settings_option("NAME.OPTION=VALUE", "Option of the data set; may be repeated."),
    ] = [],  # noqa: B006 - typer copies it
    device: Device = "",
    threads: Threads = None,
    plugins: PluginFiles = [],  # noqa: B006
    as_json: AsJson = False,
    _debug: Debug = False,
) -> None:
    """Measure robust accuracy of a kept learner (AutoAttack).

    Example: ubench autoattack results/cifar10-fast 1f2e3d4c --rho 8/255

    Needs the extra: pip install 'unlearnable-bench[autoattack]'. The result is written to the
    results folder, next to the record, which does not change.
    """
    from unlearnable_bench.radius import Radius
    from unlearnable_bench.running.environment import pick_device
    from unlearnable_bench.running.threads import use_threads
    from unlearnable_bench.screen.attacked import print_autoattack

    load_plugins(plugins)
    where = pick_device(device or None)
    use_threads(threads)
    with damage_named():
        print_autoattack(
            folder,
            key,
            Radius(rho),
            images,
            seed,
            dataset,
            parse_settings(settings),
            where,
            as_json=as_json,
        )
