"""Plugins of others: what is wrong with one is said, and costs nobody else."""

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path

import pytest
from commands import ATTACKS, Command, run_tiny

from unlearnable_bench import api
from unlearnable_bench.planning import registry
from unlearnable_bench.results.store import ResultsFolder

PLUGIN = """
from dataclasses import dataclass
from unlearnable_bench import (
    Attack, Budget, Dataset, Defense, Poison, Radius, Report, option
)

@dataclass(frozen=True, kw_only=True)
class {name}({base}):
    '''A plugin of the tests.'''
    {body}
"""


TOO_LOUD = """
    surrogate = "none"

    def generate(self, images, harness):
        return Poison(255 - images.images, Budget("linf", Radius("8/255")))
"""


def test_a_plugin_file_that_is_none_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    def message(text: str, name: str = "mine.py") -> str:
        (workplace / name).write_text(text)
        line = refused(*run_tiny("--methods", "clean", "--plugin", name))
        assert name in line
        return line

    assert "gone.py: no such file" in refused(
        *run_tiny("--methods", "clean", "--plugin", "gone.py")
    )
    assert "not a Python file" in message("", "mine.txt")
    assert "ZeroDivisionError: division by zero" in message("1 / 0")
    assert "SyntaxError" in message("def")
    assert "ModuleNotFoundError: No module named 'nowhere'" in message("import nowhere")
    assert "defines no Attack" in message("from unlearnable_bench.attacks.sem import SEM")
    taken = PLUGIN.format(name="Sem", base="Attack", body=TOO_LOUD)
    assert "attack 'sem' already exists" in message(taken)


def test_an_unfinished_plugin_is_named(refused: Callable[..., str], workplace: Path) -> None:
    body = "strength: int = 3\n" + TOO_LOUD
    (workplace / "mine.py").write_text(PLUGIN.format(name="Bare", base="Attack", body=body))
    message = refused(*run_tiny("--methods", "bare", "--plugin", "mine.py"))
    assert "Bare.strength" in message
    assert "strength" in message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (TOO_LOUD, "breaks its promised budget: linf"),
        (TOO_LOUD.replace("255 - images.images", "images.images[:7]"), "returned uint8 [7, 16, "),
        (TOO_LOUD.replace("255 - images.images", "images.images / 255"), "returned float64"),
        (TOO_LOUD.replace("return", "raise ValueError('two\\nlines') #"), "ValueError: two lines"),
        (TOO_LOUD.replace("255 - images.images", "images.images"), "changed no image within"),
        (TOO_LOUD.replace("return", "return images.images #"), "returned ndarray instead of"),
        (
            TOO_LOUD.replace("return", "harness.network(images) #"),
            'declares surrogate = "none" and asks for a network; declare surrogate = "own"',
        ),
    ],
)
def test_a_failing_attack_costs_no_other_cell(
    ubench: Command, workplace: Path, body: str, reason: str
) -> None:
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Attack", body=body))
    result = ubench(*run_tiny("--methods", "mine", "--plugin", "mine.py"))
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert result.err.startswith("ubench: mine, small-cnn, rho_a 0, seed 0: ")
    assert reason in result.err
    assert list(api.load_records(workplace / "out")["attack"]) == ["clean"]
    assert "1 cell computed" in result.out
    assert not list((workplace / "out").glob("poisons/*"))


NO = "raise ValueError('no')"


@pytest.mark.parametrize(
    ("base", "body", "arguments", "words"),
    [
        (
            "Attack",
            f"def check(self, images): {NO}\n    def generate(self, images, harness): ...",
            run_tiny("--methods", "mine"),
            "attack 'mine' fails: ValueError: no (",
        ),
        (
            "Attack",
            f"def image_passes(self, images): {NO}\n    def generate(self, images, harness): ...",
            run_tiny("--methods", "mine", "--dry-run"),
            "attack 'mine' fails: ValueError: no (",
        ),
        (
            "Dataset",
            "def load(self): raise SystemExit(0)",
            ("run", "--methods", "sem", "--dataset", "mine"),
            "data set 'mine' fails: SystemExit: 0 (",
        ),
        (
            "Dataset",
            f"def load(self): {NO}",
            ("run", "--methods", "sem", "--dataset", "mine"),
            "data set 'mine' fails: ValueError: no (",
        ),
        (
            "Report",
            f"def render(self, frame): {NO}",
            ("report", "results", "--format", "mine"),
            "report 'mine' fails: ValueError: no (",
        ),
        (
            "Dataset",
            "def load(self): return None",
            ("run", "--methods", "sem", "--dataset", "mine"),
            "data set 'mine' must return Data from load(), got NoneType",
        ),
        (
            "Report",
            "def render(self, frame): return frame",
            ("report", "results", "--report", "mine"),
            "report 'mine' must render tables, a figure, text or bytes, got DataFrame",
        ),
    ],
)
def test_a_plugin_that_fails_outside_of_cells_is_named(
    refused: Callable[..., str],
    workplace: Path,
    base: str,
    body: str,
    arguments: tuple[object, ...],
    words: str,
) -> None:
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base=base, body=body))
    message = refused(*arguments, "--plugin", "mine.py")
    assert words in message
    assert ("mine.py:" in message) is ("fails" in words)  # what it raises has a line


def test_a_plugin_that_ends_the_process_costs_no_other_cell(
    ubench: Command, workplace: Path
) -> None:
    body = TOO_LOUD.replace("return", "raise SystemExit(0) #")
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Attack", body=body))
    result = ubench(*run_tiny("--methods", "mine,random", "--plugin", "mine.py"))
    assert result.code == 2
    assert "mine, small-cnn, rho_a 0, seed 0: SystemExit: 0 (" in result.err
    assert set(api.load_records(workplace / "out")["attack"]) == {"clean", "random"}


def test_a_file_that_changes_during_the_run_is_not_taken(ubench: Command, workplace: Path) -> None:
    body = """
    surrogate = "none"
    def fingerprint(self):
        return str(len(__import__('os').listdir('.')))
    def generate(self, images, harness):
        open('new', 'w').close()
        return Poison(images.images, Budget("linf", Radius("0")))
"""
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Attack", body=body))
    (workplace / "out").mkdir()
    result = ubench(*run_tiny("--methods", "mine", "--plugin", "mine.py"))
    assert result.code == 2
    assert "changed meanwhile; run the command again" in result.err
    assert list(api.load_records(workplace / "out")["attack"]) == ["clean"]


def test_results_of_two_versions_of_a_file_are_not_averaged(
    ubench: Command, workplace: Path
) -> None:
    body = TOO_LOUD.replace("255 - images.images", "images.images").replace("8/255", "0")
    text = PLUGIN.format(name="Mine", base="Attack", body=body)
    for seed, comment in enumerate(("", "# edited")):
        registry.attacks._from_files.clear()  # as in another process
        (workplace / "mine.py").write_text(text + comment)
        command = run_tiny("--methods", "mine", "--no-clean", "--plugin", "mine.py")
        result = ubench(*command, "--seeds", seed)
        assert result.code == 0

    def rows(*arguments: str) -> list[list[str]]:
        lines = ubench("report", *arguments).out.splitlines()
        return [
            [c.strip(" ~\\") for c in line.split("|")[1:-1]] for line in lines if "| mine" in line
        ]

    found = api.load_records(workplace / "out").sort_values("seed")["test_accuracy"]
    first, second = (f"{accuracy:.1f}" for accuracy in found)
    (older, newer) = rows("out")
    assert re.fullmatch(r"mine #[0-9a-f]{4} \(0\)", older[0])
    assert older[1] == first
    assert newer == ["mine (0)", second]
    told = ubench("report", "out")
    assert "1 cell of earlier versions of mine; leave them out with --newest" in told.err
    assert "what was run last has no #." in told.out
    assert rows("out", "--newest") == [["mine (0)", second]]
    assert ubench("report", "out", "--newest").err == ""
    one_run = result.out.split("ubench report ")[1].split(" --format")[0].split()
    assert rows(*one_run) == [["mine (0)", second]]


def test_the_code_that_was_run_last_has_the_plain_name(ubench: Command, workplace: Path) -> None:
    body = TOO_LOUD.replace("255 - images.images", "images.images").replace("8/255", "0")
    whole = PLUGIN.format(name="Mine", base="Attack", body=body)
    failing = whole.replace("    def generate", "    def generate(self, images, harness):\n"
                            "        raise ValueError('boom')\n\n    def unused")  # fmt: skip
    shown = []
    for text in (whole, whole + "# edited", whole, failing):
        registry.attacks._from_files.clear()  # as in another process
        (workplace / "mine.py").write_text(text)
        ubench(*run_tiny("--methods", "mine", "--no-clean", "--plugin", "mine.py"))
        lines = ubench("report", "out").out.splitlines()
        shown.append([re.sub(" +", " ", line) for line in lines if "| mine" in line])
        newest = ubench("report", "out", "--newest").out
        assert newest.count("| mine") == (text != failing)  # which has no number at all
    first, second, reverted, failed = shown
    assert [" #" in line for line in first] == [False]
    # An edit, and back: the code of the third run is that of the first.
    (edited,) = (line for line in reverted if " #" in line)
    (plain,) = (line for line in second if " #" not in line)
    assert plain.split("|")[2] == edited.split("|")[2]
    assert first[0] in reverted
    # Code that fails has no number, least of all that of other code.
    assert [line for line in failed if " #" not in line] == ["| mine | ! |"]
    assert sum(" #" in line for line in failed) == 2


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("images.images[:] = 0", "ValueError: assignment destination is read-only"),
        ("images.labels[:] = 0", "ValueError: assignment destination is read-only"),
        ("harness.tensors(images)[0].zero_()", ""),
        ("harness.tensors(images)[1].zero_()", ""),
    ],
)
def test_no_attack_changes_what_other_cells_see(
    ubench: Command, workplace: Path, spoil: str, told: str
) -> None:
    body = f"""
    surrogate = "none"
    def generate(self, images, harness):
        {spoil}
        return Poison(images.images, Budget("linf", Radius("0")))
"""
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Attack", body=body))
    methods = ("--no-clean", "--methods", "mine,clean")
    result = ubench(*run_tiny(*methods, "--plugin", "mine.py"))
    assert result.code == (2 if told else 0)
    assert told in result.err
    ubench(*run_tiny("--methods", "clean", "--out", "alone"))
    found = api.load_records(workplace / "out").set_index("attack").loc["clean"]
    alone = api.load_records(workplace / "alone").set_index("attack").loc["clean"]
    assert found["train_accuracy"] == alone["train_accuracy"]
    assert found["test_accuracy"] == alone["test_accuracy"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def prepare(self, images, h): return images.images", "returned ndarray instead of an Im"),
        ("def prepare(self, images, h): return images.replaced(images.images / 255)", "float64 ["),
        (
            "def prepare(self, images, h): return images.replaced(images.images[:, 4:, 4:])",
            "returned uint8 [120, 12, 12, 3], 120 labels instead of uint8 [N, 16, 16, 3] and N",
        ),
        ("def prepare(self, images, h): return images.subset([])", "0 labels instead of"),
    ],
)
def test_a_defense_that_returns_something_else_is_refused(
    ubench: Command, workplace: Path, body: str, reason: str
) -> None:
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Defense", body=body))
    result = ubench(*run_tiny("--methods", "clean", "--defenses", "none,mine", "--plugin=mine.py"))
    assert result.code == 2
    assert reason in result.err
    assert list(api.load_records(workplace / "out")["defense"]) == ["none"]


def test_a_defense_may_leave_images_out(ubench: Command, workplace: Path) -> None:
    body = "def prepare(self, images, h): return images.subset([*range(0, 120, 2)])"
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Defense", body=body))
    result = ubench(*run_tiny("--methods", "clean", "--defenses", "mine", "--plugin=mine.py"))
    assert result.code == 0, result.err


@pytest.mark.parametrize("draw", ["torch.rand(shape).numpy()", "numpy.random.random(shape)"])
def test_what_draws_from_other_generators_depends_on_the_seed(
    ubench: Command, workplace: Path, draw: str
) -> None:
    body = f"""
    surrogate = "none"
    def generate(self, images, harness):
        import numpy, torch
        shape = images.images.shape
        levels = (2 * {draw}).astype(numpy.uint8)
        return Poison(numpy.clip(images.images, 1, 254) + levels, Budget("linf", Radius("2/255")))
"""
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Attack", body=body))
    made = []
    for out in ("out", "again"):
        registry.attacks._from_files.clear()
        command = run_tiny("--no-clean", "--methods", "mine", "--seeds", "0,1", "--plugin=mine.py")
        assert ubench(*command, "--out", out).code == 0
        folder = ResultsFolder(workplace / out)
        made.append({record.seed: record.poison["sha256"] for record in folder.records()})
    assert made[0] == made[1]
    assert made[0][0] != made[0][1]


def test_a_failing_defense_is_reported_and_costs_no_other_cell(
    ubench: Command, workplace: Path
) -> None:
    body = "def prepare(self, *_):\n        raise RuntimeError('no')"
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Defense", body=body))
    result = ubench(*run_tiny("--methods", "clean", "--defenses", "none,mine", "--plugin=mine.py"))
    assert result.code == 2
    assert "clean, small-cnn, mine, rho_a 0, seed 0: RuntimeError: no" in result.err
    assert list(api.load_records(workplace / "out")["defense"]) == ["none"]


def test_list_shows_plugins_of_a_file(ubench: Command, workplace: Path) -> None:
    text = PLUGIN.format(name="MyNoise", base="Attack", body=TOO_LOUD)
    (workplace / "mine.py").write_text(text)
    listed = ubench("list", "attacks", "--plugin=mine.py").out
    assert re.search("^my-noise +A plugin of the tests. Needs: undeclared.$", listed, re.MULTILINE)


def test_list_shows_a_plugin_that_fails_on_import_as_unusable(
    ubench: Command, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = "unlearnable_bench.attacks"
    broken = EntryPoint("broken", "no_such_module:Broken", group)
    foreign = EntryPoint("foreign", "json:JSONDecoder", group)

    def with_broken(**wanted: str) -> EntryPoints:
        return EntryPoints([*entry_points(group=group), broken, foreign]).select(**wanted)

    monkeypatch.setattr(registry, "entry_points", with_broken)
    result = ubench("list", "attacks")
    lines = {line.split()[0]: line for line in result.out.splitlines()}
    assert result.code == 0
    assert lines.keys() >= {*ATTACKS, "broken", "foreign"}
    assert "unusable" in lines["broken"]
    assert "No module named 'no_such_module'" in lines["broken"]
    assert "not a subclass of Attack" in lines["foreign"]
    assert "unusable" not in lines["sem"]
    assert "no_such_module" in refused("run", "--methods", "broken", "--preset", "smoke")


def test_a_name_that_two_packages_claim_is_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = "unlearnable_bench.attacks"
    twin = EntryPoint("sem", "other_package:SEM", group)

    def with_twin(**wanted: str) -> EntryPoints:
        return EntryPoints([*entry_points(group=group), twin]).select(**wanted)

    monkeypatch.setattr(registry, "entry_points", with_twin)
    message = refused(*run_tiny("--methods", "sem"))
    assert "other_package:SEM" in message
    assert "unlearnable-bench" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "class Mine(Attack):\n    def generat(self, images, harness): ...",
            "define generate in Mine",
        ),
        (
            "class Mine(Defense):\n    steps: int = option(3, 'steps')",
            "write @dataclass(frozen=True",
        ),
        (
            "class Mine(Defense):\n    def prepair(self, x, h): ...",
            "'mine' defines none of the hooks pre",
        ),
        ("class Training(Defense): ...", "the name 'training' is reserved"),
        (
            "{frozen}\nclass Mine(Defense):\n    size: list = option(3, '')",
            "Mine.size has type list",
        ),
        (
            "{frozen}\nclass Mine(Defense):\n    size: int = option(2.5, '')",
            "has type int and default 2.5",
        ),
        ("{frozen}\nclass Mine(Defense):\n    size: int = 3", "Mine.size must be declared with"),
        ("1 +\n1 / 0", "SyntaxError"),
        ("\n\n1 / 0", "mine.py:9)"),
    ],
)
def test_what_is_wrong_with_a_class_is_said(
    refused: Callable[..., str], workplace: Path, text: str, words: str
) -> None:
    head = PLUGIN.partition("@dataclass")[0]
    frozen = "@dataclass(frozen=True, kw_only=True)"
    (workplace / "mine.py").write_text(head + text.format(frozen=frozen))
    command = run_tiny("--methods", "clean", "--defenses", "mine", "--plugin", "mine.py")
    assert words in refused(*command)
