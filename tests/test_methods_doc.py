"""docs/methods.md names every plugin and a command for each path, and the commands reach them.

The table of commands is rendered from the registry; after a change write it anew with
`python tests/test_methods_doc.py`.
"""

import re
import shlex
import shutil
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from documents import DOCS, stand_in_for_data, write_stand_ins
from typer.testing import CliRunner

from unlearnable_bench import Data, Radius, api
from unlearnable_bench.cli import app
from unlearnable_bench.contract import Defense, Plugin
from unlearnable_bench.curation.detection import Given, measurements_of
from unlearnable_bench.datasets.shapes import Shapes
from unlearnable_bench.options import Configurable
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.correlation import Noise, make_correlation_plan
from unlearnable_bench.planning.registry import Chosen, Registry
from unlearnable_bench.presets import preset_names
from unlearnable_bench.reports._figure import FigureReport
from unlearnable_bench.results.rendering import FIGURE_FORMATS, TABLE_FORMATS
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.detection import measure
from unlearnable_bench.schedule import Training

DOCUMENT = DOCS / "methods.md"
BEGIN = "<!-- rendered by tests/test_methods_doc.py -->\n"
END = "<!-- end -->\n"

PATHS = {
    "file": "noise.npy",
    "folder": "pictures",
    "hf": "pictures",
    "imagenet-subset": "imagenet",
    "npz": "mine.npz",
    "tfds": "cifar10/3.0.2",
    "tiny-imagenet": "tiny-imagenet-200",
    "webdataset": "shards",
}
COMMANDS = {
    "attacks": "ubench run --methods {}",
    "defenses": "ubench run --methods sem --defenses {}",
    "learners": "ubench run --methods sem --learners {}",
    "datasets": "ubench run --methods sem --dataset {}",
    "reports": "ubench report results/shapes-smoke --report {}",
}
FORMATS: dict[str, type[Configurable]] = {
    form: import_module(f"unlearnable_bench.reports._{form}").Style for form in TABLE_FORMATS
}
# What SEM's noise costs in each run of the stand-in: next to nothing.
SHORT = {
    "training.steps": "1", "sem.steps": "1", "sem.noise_steps": "1", "sem.samples": "1",
    "sem.attack_steps": "1",
}  # fmt: skip
# What is named in the text but is no choice that the registry could list.
NAMED = {
    "em": ["centred=true", "noise_steps=5 alpha_u=1.6/255"],
    "rem": ["noise_rho_a=2/255"],
    "sem": ["noise_rho_a=2/255", "rho_a=0 noise_rho_a=4/255"],
    "tap": ["alpha_u=0.4/255", "untargeted=true alpha_u=0.4/255", "restarts=8"],
    "ntga": ["steps=10", "t=8", "kernel=fnn t=4096", "stride=3"],
    "cuda": ["size=9 blur=0.06"],
    "ar": ["response=3", "norm=1", "rho_u=8/255"],
    "tue": ["sweeps=196"],
    "mi-ue": ["zeta=0"],
    "sep": ["checkpoints=10", "shift=3", "draws=15"],
    "entf": ["rho_a=0"],
    "ops": ["sparsity=3"],
    "em-ops": ["sparsity=3"],
    "hypo": ["norm=0.5 adversary=0 epochs=100"],
    "dune": ["colour=0"],
    "sc": ["rho_u=8/255"],
    "mlp2": ["width=128", "width=3072"],
    "mlp3": ["width=3072 second_width=1536"],
    "lenet5": ["multiple=3 activation=tanh"],
    "low-pass": ["cutoff=0.25"],
    "coin": ["alpha=3.2"],
    "deep-feature-reweighting": ["share=0.02"],
    "d-vae": ["rate_weight=0.5"],
    "rsk": ["spread=0"],
    "cutmix": ["probability=0.5"],
    "mart": ["beta=6"],
}
OTHERS = {
    "radii of adversarial training": "--methods sem --rho-a 0,2/255,4/255",
    "radii of the noise": "--methods rem,sem --rho-u 8/255,16/255",
    "surrogate other than the learner": "--methods sem --surrogate resnet18 --learners vgg16-bn",
    "defenses joined": "--methods sem --defenses jpeg+cutout+trades --rho-a 4/255",
    "defenses side by side": "--methods em,sem --defenses none,grayscale,early-stopping",
    "shares": "--methods sem --protect 0.2,0.4,0.6,0.8,1",
    "classes": "--methods sem --dataset shapes --protect-classes disc,ring",
    "share of classes": "--methods sem --dataset shapes --protect 0.5 --protect-classes disc,ring",
    "ImageNet subset": "--methods tap,rem,sem --rho-a 0,4/255 --preset imagenet "
    "--dataset imagenet-subset:imagenet",
    "misaligned EM on it": "--methods em --set em.variant=misaligned --rho-a 0,4/255 "
    "--preset imagenet --dataset imagenet-subset:imagenet --set imagenet-subset.size=224",
    "arithmetic of the exact reference": "--methods sem --precision fp64",
}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        path: what the command reaches, in the words of the table.
        command: the whole command.
        kind: of the plugin, one of `registry.REGISTRIES`; empty for other rows.
        name: of the plugin.
        options: what its options must be.
    """

    path: str
    command: str
    kind: str = ""
    name: str = ""
    options: tuple[tuple[str, str], ...] = ()


def built_in(kind: str) -> dict[str, type[Plugin]]:
    """Return the plugins of this project, without those of other packages."""
    kinds = registry.REGISTRIES[kind]
    classes = {name: kinds.get(name) for name in kinds.names()}
    return {n: c for n, c in classes.items() if c.__module__.startswith("unlearnable_bench.")}


def choices(cls: type[Configurable]) -> dict[str, tuple[str, list[str]]]:
    """Return the default and the other values of each option that has few."""
    hints, found = typing.get_type_hints(cls), {}
    for option in cls.options():
        hint = hints[option.name]
        if typing.get_origin(hint) is Literal or hint is bool:
            values = ["false", "true"] if hint is bool else map(str, typing.get_args(hint))
            found[option.name] = (option.default, [v for v in values if v != option.default])
    return found


def plugin_rows(kind: str, name: str, cls: type[Plugin]) -> Iterator[Row]:
    """Yield the row of a plugin as it is, of each other choice, and of each named variant."""
    command = COMMANDS[kind].format(f"{name}:{PATHS[name]}" if name in PATHS else name)
    if issubclass(cls, Defense) and (cls.perturb, cls.loss) != (Defense.perturb, Defense.loss):
        command += " --rho-a 128/255" if name == "pgd-l2" else " --rho-a 4/255"
    if name == "purified":
        command += " --set purified.file=purified.npz"
    if name == "published":  # there is no figure of shapes
        command = command.replace("shapes-smoke", "cifar10-fast")
    if kind == "reports" and (issubclass(cls, FigureReport) or name == "html"):
        command += " --output page.html" if name == "html" else f" --output {name}.pdf"
    yield from option_rows(kind, name, cls, command)


def option_rows(kind: str, name: str, cls: type[Configurable], command: str) -> Iterator[Row]:
    usual = {option: default for option, (default, _) in choices(cls).items()}
    shown = "".join(f", {option} {default.lower()}" for option, default in usual.items())
    yield Row(f"`{name}`{shown}", command, kind, name, tuple(usual.items()))
    variants = [f"{option}={value}" for option, (_, o) in choices(cls).items() for value in o]
    for variant in [*variants, *NAMED.get(name, [])]:
        prefix = "" if kind in ("reports", "formats") else f"{name}."
        settings = [f"{prefix}{setting}" for setting in variant.split()]
        path = ", ".join(f"`{name}.{setting}`" for setting in variant.split())
        options = tuple((o, v) for o, _, v in (s.partition("=") for s in variant.split()))
        whole = " --set ".join([command, *settings])
        yield Row(path, whole, kind, name, options)


def rows() -> dict[str, list[Row]]:
    """Return all rows by their heading."""
    found = {
        kind: [row for n, cls in built_in(kind).items() for row in plugin_rows(kind, n, cls)]
        for kind in COMMANDS
    }
    report = COMMANDS["reports"]
    found["formats"] = [
        row
        for form, style in FORMATS.items()
        for row in option_rows("formats", form, style, report.format(f"main --format {form}"))
    ]
    found["formats"] += [
        Row(f"`{form}`", report.format(f"radius-curves --format {form} --output curves.{form}"))
        for form in FIGURE_FORMATS
    ]
    subset = {"imagenet": " --dataset imagenet-subset:imagenet"}
    presets = [
        Row(f"`{n}`", f"ubench run --methods sem --preset {n}{subset.get(n, '')}")
        for n in preset_names()
    ]
    others = [Row(path, f"ubench run {arguments}") for path, arguments in OTHERS.items()]
    return found | {"presets": presets, "settings": others}


def rendered() -> str:
    lines = ["| path | command |", "|---|---|"]
    for heading, part in rows().items():
        lines.append(f"| **{heading}** | |")
        lines += [f"| {row.path} | `{row.command}` |" for row in part]
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    """Return the document before, in and after the table of commands."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    return before, table, after


def test_the_table_is_that_of_the_registry() -> None:
    stale = "docs/methods.md is behind the registry; run python tests/test_methods_doc.py"
    assert parts()[1] == rendered(), stale


def test_the_table_has_each_choice() -> None:
    commands = parts()[1]
    for setting in (
        *("em.variant=misaligned", "em.variant=classwise", "tap.untargeted=true"),
        *(f"rem.perturbation={arm}" for arm in ("uniform", "gaussian", "none")),
        *(f"sem.perturbation={arm}" for arm in ("pgd", "gaussian", "none")),
        *("ntga.kernel=fnn", "randaugment.magnitudes=random", "npz.flip=false", "document=true"),
        *("spread=interval", "transpose=true", "over_rho_a=true"),
    ):
        assert re.search(f" --set {re.escape(setting)}[ `]", commands)


def test_the_table_has_each_report_and_format() -> None:
    commands = parts()[1]
    assert {"main", "transfer", "radius-curves", "html", "csv"} <= {*built_in("reports")}
    for name in built_in("reports"):
        assert re.search(f" --report {name}[ `]", commands)
    for form in ("latex", "markdown", "csv", "html", "pdf", "png", "svg"):
        assert re.search(f" --format {form}[ `]", commands)


@pytest.mark.parametrize("kind", ["attacks", "defenses", "learners", "datasets"])
def test_the_text_describes_every_plugin(kind: str) -> None:
    described = (DOCS / "data.md").read_text(encoding="utf-8") if kind == "datasets" else parts()[0]
    heads = [line for line in described.splitlines() if line.startswith("### ")]
    heads += re.findall(r"^\| (`[^|]*)", described, re.MULTILINE)
    named = set(re.findall(r"`([a-z0-9-]+)", "\n".join(heads)))
    assert {*built_in(kind)} <= named


def test_the_options_in_the_text_exist() -> None:
    found = re.findall(r"`(?:--set )?([a-z0-9-]+)\.([a-z_]+)=([^`\s]+)`", "".join(parts()))
    plugins: dict[str, Any] = dict.fromkeys(("training", "adversarial", "surrogate"), Training)
    for kind in COMMANDS:
        plugins |= built_in(kind)
    # Of the names that a report and a format share, the format alone has options.
    plugins |= FORMATS
    assert len(found) > 30
    for name, option, value in found:
        plugins[name].configured({option: value}, owner=name)


def test_the_numbers_of_parameters_are_those_of_the_networks() -> None:
    found = dict(re.findall(r"^\| `([a-z0-9-]+)` \| ([0-9,]+) \|", parts()[0], re.MULTILINE))
    counted = {}
    for name in built_in("learners"):
        with torch.device("meta"):
            network = registry.learners.choose(name).plugin.build(10, 32)
        counted[name] = f"{sum(p.numel() for p in network.parameters()):,}"
    assert found == counted


def fill(out: Path) -> None:
    """Fill a results folder with cells of which every report has something to show."""
    settings = SHORT | {"small-cnn.width": "4"}
    usual: dict[str, Any] = {"methods": ["sem"], "settings": settings, "clean": False}
    both = [Radius("0"), Radius("4/255")]
    for asked in (
        {"methods": ["random", "sc", "sem"], "seeds": [0, 1, 2], "rho_a": both, "clean": True},
        {"settings": settings | {"sem.steps": "1,2"}},
        {"methods": ["sem"], "settings": settings | {"small-cnn.width": "4,8"}},
        {"defenses": ["none", "jpeg"], "settings": settings | {"jpeg.quality": "90,50"}},
        {"protect": [0.5, 1.0]},
    ):
        assert not api.run(api.make_plan(**(usual | asked)), out, device="cpu").failures
    noises = [Noise("none"), Noise("uniform")]
    radii = [Radius(f"{k}/255") for k in (0, 2, 4)]
    variants = make_correlation_plan(
        surrogate_rho_a=radii, noises=noises, rho_a=both[1], settings=settings
    )
    assert not api.run(variants, out, device="cpu").failures
    few = Given(("linear",), settings={"training.epochs": "1"})
    measure(
        measurements_of(out, {"attack": ["clean", "sc"]}, few),
        ResultsFolder(out),
        torch.device("cpu"),
    )
    np.save(out / "ones.npy", np.ones((120, 32, 32, 3), np.int8))
    file = {"methods": [f"file:{out / 'ones.npy'}"], "settings": {"training.steps": "1"}}
    failing = api.make_plan(**(usual | file))
    failing.cells[0].key  # noqa: B018 - read the file for its hash
    (out / "ones.npy").unlink()
    assert len(api.run(failing, out, device="cpu").failures) == 1


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Data]]:
    """A folder with a small stand-in of all that the commands name, and data of 32 px."""
    folder = tmp_path_factory.mktemp("methods")
    data = Shapes(train=900, test=100).load()  # NTGA needs a block and two fifths of the set
    write_stand_ins(folder, data)
    with pytest.MonkeyPatch.context() as patch:
        small = Shapes(train=120, test=40).load()
        stand_in_for_data(patch, folder, data)
        patch.setattr(Shapes, "load", lambda _: small)
        fill(folder / "results" / "shapes-smoke")
        known = api.make_plan(
            dataset="cifar10", methods=["random"], learners=["resnet18"], clean=False,
            settings={"training.steps": "1"},
        )  # fmt: skip
        assert not api.run(known, folder / "results" / "cifar10-fast", device="cpu").failures
    yield folder, data
    shutil.rmtree(folder)  # decoded pictures are large


@pytest.fixture
def chosen(
    stand_in: tuple[Path, Data], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, str, Configurable]]:
    """What the commands of a test choose: kind, name, and plugin or format with its options."""
    folder, data = stand_in
    stand_in_for_data(monkeypatch, folder, data)
    found: list[tuple[str, str, Configurable]] = []
    choose = Registry.choose

    def spy(self: Registry[Any], *arguments: Any) -> Chosen[Any]:
        plugin = choose(self, *arguments)
        found.append((self.kind, plugin.name, plugin.plugin))
        return plugin

    monkeypatch.setattr(Registry, "choose", spy)
    for style in {*FORMATS.values()}:

        def noted(
            cls: type[Configurable],
            settings: Any,
            owner: str,
            configured: Any = style.configured.__func__,
        ) -> Configurable:
            made: Configurable = configured(cls, settings, owner=owner)
            found.append(("format", owner, made))
            return made

        monkeypatch.setattr(style, "configured", classmethod(noted))
    return found


@pytest.mark.parametrize(
    "row", [row for part in rows().values() for row in part], ids=lambda row: row.command
)
def test_the_command_reaches_its_path(
    row: Row, chosen: list[tuple[str, str, Configurable]]
) -> None:
    program, *arguments = shlex.split(row.command)
    dry = ["--dry-run"] if arguments[0] == "run" else []
    result = CliRunner().invoke(app, [*arguments, *dry])
    assert result.exit_code == 0, result.exception or result.output
    assert program == "ubench"
    if "--output" in arguments:
        assert Path(arguments[arguments.index("--output") + 1]).stat().st_size > 1000
    if row.kind:
        kind = "format" if row.kind == "formats" else registry.REGISTRIES[row.kind].kind
        found = [plugin for k, name, plugin in chosen if (k, name) == (kind, row.name)]
        assert found
        for plugin in found:
            wanted = type(plugin).configured(dict(row.options), owner=row.name)
            for option, _ in row.options:
                assert getattr(plugin, option) == getattr(wanted, option)


if __name__ == "__main__":
    before, _, after = parts()
    DOCUMENT.write_text(before + BEGIN + rendered() + END + after, encoding="utf-8")
