"""The pages of docs/: their commands and examples run, their names and links resolve.

Examples that a page copies from a file are rendered; after a change write them anew with
`python tests/test_docs.py`. docs/methods.md, docs/reports.md and docs/sweeps.md have tests of
their own for what their commands do.
"""

import itertools
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import DOCS, ROOT, Block, blocks, commands, stand_in_for_data, write_stand_ins
from typer.testing import CliRunner

from unlearnable_bench import Data, __version__, api
from unlearnable_bench.cli import app
from unlearnable_bench.datasets.shapes import Shapes
from unlearnable_bench.planning import grid, registry
from unlearnable_bench.planning.row_names import split_row
from unlearnable_bench.presets import Preset, load_preset, preset_names
from unlearnable_bench.results.rendering import TABLE_FORMATS
from unlearnable_bench.schedule import Training

PAGES = sorted(f"docs/{path.name}" for path in DOCS.glob("*.md"))
DOCUMENTS = [*PAGES, "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
DOCUMENTS += ["benchmarks/README.md", "findings/README.md"]
_RUN = ("quickstart", "compare", "defenses", "data", "gpus", "results", "protocol", "learners")
RUN = [f"docs/{name}.md" for name in _RUN]
GPU = {
    "fast",
    "paper",
    "imagenet",
    "cifar10",
    "cifar100",
    "svhn",
    "tiny-imagenet",
    "imagenet-subset",
}
RENDERED = re.compile(
    r"(<!-- rendered by tests/test_docs\.py: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL
)
# Options of `run` and `report` that name plugins, by the kind of plugin.
NAMES = {
    "--methods": "attacks", "--defenses": "defenses", "--learners": "learners",
    "--surrogate": "learners", "--dataset": "datasets", "--report": "reports",
}  # fmt: skip
# Names in examples of plugins, and of settings that are no plugin's.
EXAMPLES = {"classwise", "grain", "my-noise", "undefended", "report", "remainder"}


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def all_commands(document: str) -> list[list[str]]:
    """Return the commands of a document's blocks, and of its code spans that are whole."""
    found = [words for block in blocks(document) for words in commands(block)]
    prose = re.sub(r"^```.*?^```", "", text(document), flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`(ubench [^`]+)`", prose)
    return found + [shlex.split(span.replace("\n", " ")) for span in spans if "..." not in span]


def parse(words: list[str]) -> None:
    """Let the command line read a command, of which the text may name a part; do nothing else."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while rest and hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    if rest:
        try:
            command.make_context(words[-1], list(rest))
        except Exception as error:
            # Its module has moved between typer's versions.
            if type(error).__name__ != "MissingParameter":
                raise


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_fits_the_command_line(document: str) -> None:
    for words in all_commands(document):
        if words[1:] not in (["--help"], ["--version"], ["--install-completion"]):
            parse(words)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_in_a_command_exists(document: str) -> None:
    known = {kind: {*found.names()} | EXAMPLES for kind, found in registry.REGISTRIES.items()}
    for words in all_commands(document):
        for option, value in itertools.pairwise(words):
            if option in NAMES and words[1] in ("run", "report") and not re.match(r"[A-Z$]", value):
                for name in re.split(r"[,+]", value):
                    assert split_row(name)[1].partition(":")[0] in known[NAMES[option]], words
            if option == "--preset":
                assert value in preset_names(), words
        if words[1:2] == ["list"] and len(words) > 2 and words[2] != "KIND":
            assert words[2] in {*registry.REGISTRIES, "presets"}, words


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_option_that_is_set_exists(document: str) -> None:
    owners: dict[str, Any] = dict.fromkeys(("training", "adversarial", "surrogate"), Training)
    for kind in registry.REGISTRIES:
        found = registry.REGISTRIES[kind]
        owners |= {name: found.get(name) for name in found.names() if name not in TABLE_FORMATS}
    named = re.findall(r"(?<![\w/.-])([a-z][a-z0-9-]*)\.([a-z_]+)=([^\s`,\]|)]+)", text(document))
    for owner, option, value in named:
        if owner not in owners:
            assert owner in EXAMPLES | {"latex", "markdown", "html", "csv"}, f"{owner}.{option}"
            continue
        options = {found.name for found in owners[owner].options()}
        assert option in options, f"{owner}.{option}={value}"


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and Python-Markdown make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    prose = re.sub(r"^```.*?^```", "", text(document), flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`]*`", "", prose)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), link


@pytest.mark.parametrize("document", PAGES)
def test_the_files_that_a_page_names_exist(document: str) -> None:
    for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py|\.toml|\.sh)?)`", text(document)):
        homes = (ROOT, ROOT / "unlearnable_bench")
        made = path.split("/")[0] in (
            "work",
            "cells",
            "plans",
            "results",
            "failures",
            "networks",
            "train",
            "test",
            "val",
            "jobs",
        )
        assert made or any((home / path).exists() for home in homes), path


def rendered(document: str) -> str:
    """Return a document with its examples as their files are."""

    def fresh(found: re.Match[str]) -> str:
        return f"{found[1]}```python\n{text(found[2])}```\n{found[4]}"

    return RENDERED.sub(fresh, text(document))


def test_the_examples_are_those_of_the_files() -> None:
    assert sum(len(RENDERED.findall(text(page))) for page in PAGES) == 2
    for page in PAGES:
        assert text(page) == rendered(page), "run python tests/test_docs.py"


def tiny(name: str) -> Preset:
    """Return a preset, of which each loop takes one or two steps."""
    usual = load_preset(name)
    once = {"steps": 1, "batch_size": 32, "noise_steps": 1, "samples": 1, "attack_steps": 1}
    attacks = {"em": {"rounds": 1, "noise_steps": 1}, "rem": once, "sem": once, "tap": {"steps": 1}}
    return replace(usual, training=usual.training | {"epochs": 1}, adversarial={}, attacks=attacks)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Data]]:
    """A folder with all that the pages' commands read, and small data in place of `shapes`."""
    folder, data = tmp_path_factory.mktemp("pages"), Shapes(train=120, test=40).load()
    write_stand_ins(folder, data)
    (folder / "mine.npz").unlink()  # a page makes it
    shutil.copytree(ROOT / "examples", folder / "examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shapes, "load", lambda _: data)
        patch.setattr(grid, "load_preset", tiny)
        plan = api.make_plan(methods=["em", "sem"], defenses=["none", "jpeg"])
        results = folder / "results"
        assert not api.run(plan, results / "theirs", device="cpu").failures
        for name in ("shapes-smoke", "shared"):
            shutil.copytree(results / "theirs", results / name)
    yield folder, data
    shutil.rmtree(folder)


@pytest.fixture
def workplace(stand_in: tuple[Path, Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder, data = stand_in
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    stand_in_for_data(monkeypatch, tmp_path, data)
    monkeypatch.setattr(grid, "load_preset", tiny)
    return tmp_path


def arguments(words: list[str]) -> list[str] | None:
    """Return what to call instead of a command: shorter, on the CPU; None for what takes long."""
    if words[1] == "bench" or {"--all", "KEY"} & {*words}:  # reports.md has a test of its own
        return None
    short = [re.sub(r"(steps|epochs|rounds)=\d+$", r"\1=1", word) for word in words[1:]]
    if "--seeds" in short:
        short[short.index("--seeds") + 1] = "1"
    if "--executor" in words:  # tests/cli/test_slurm.py
        return None
    for executor in ("--gpus", "--workers"):  # whose processes would not have this small data
        if executor in short:
            place = short.index(executor)
            del short[place : place + 2]
    if words[1] in ("run", "correlate"):
        short += ["--device", "cpu"]
        if "--preset" not in words:
            short += ["--preset", "smoke"]
        named = {word.partition(":")[0] for word in words}
        if named & GPU and "--dry-run" not in words:
            short.append("--dry-run")
    return short


def do(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.language == "python" and not block.rendered:
        exec(compile(block.text, "page", "exec"), {"__name__": "page"})
    for words in commands(block):
        asked = arguments(words)
        if asked is None:
            continue
        for kind in registry.REGISTRIES.values():
            monkeypatch.setattr(kind, "_from_files", {})
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 0, f"{words}: {result.exception or ''} {result.output}"
        if "--output" in words:
            assert Path(words[words.index("--output") + 1]).exists()


@pytest.mark.parametrize("page", RUN)
@pytest.mark.usefixtures("workplace")
def test_the_page_runs_from_top_to_bottom(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks(page):
        do(block, monkeypatch)


def test_the_newest_release_has_one_version_everywhere() -> None:
    released = re.findall(
        r"^## ([0-9.]+) \(\d{4}-\d{2}-\d{2}\)$", text("CHANGELOG.md"), re.MULTILINE
    )
    assert re.findall(r"^version: (.+)$", text("CITATION.cff"), re.MULTILINE) == released[:1]
    assert re.findall(r"version = \{(.+)\}", text("README.md")) == released[:1]
    # Between releases it is that of the next one, X.Y.Z.dev0.
    assert __version__ == released[0] or f"## {__version__.removesuffix('.dev0')}, unreleased" in (
        text("CHANGELOG.md")
    )


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(rendered(page), encoding="utf-8")
