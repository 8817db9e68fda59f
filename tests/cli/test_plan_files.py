"""Plan files: what they mean, how they are written, and which are refused."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, contents
from hypothesis import given
from hypothesis import strategies as st

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import as_texts
from unlearnable_bench.planning import plan_file

DATA = ("--dataset", "npz:tiny.npz")
CPU = ("--device", "cpu")
MINE = """
from unlearnable_bench import Defense

class Mine(Defense):
    '''Nothing.'''
    def prepare(self, images, harness): return images
"""
GRID = """
methods = ["sc", "random"]
rho-a = "0,4/255"
dataset = "npz:tiny.npz"
preset = "smoke"
defenses = "none,jpeg"
seeds = "0-1"
clean = false

[set]
"jpeg.quality" = [90, 70]
training.epochs = 1
"""


def planned(ubench: Command, *arguments: object) -> str:
    """Return the cells that a command would train."""
    done = ubench("run", *arguments, *CPU, "--dry-run")
    assert (done.code, done.err) == (0, "")
    (cells,) = re.findall(r"^cells .*$", done.out, re.MULTILINE)
    return str(cells)


def test_a_plan_file_describes_the_plan_of_the_same_options(
    ubench: Command, workplace: Path
) -> None:
    (workplace / "grid.toml").write_text(GRID)
    line = ["--methods", "sc,random", "--rho-a", "0,4/255", *DATA, "--preset", "smoke"]
    line += ["--defenses", "none,jpeg", "--seeds", "0,1", "--no-clean"]
    line += ["--set", "jpeg.quality=90,70", "--set", "training.epochs=1"]
    found = planned(ubench, "grid.toml")
    assert found == planned(ubench, *line)
    assert found.split(maxsplit=1)[1] == (
        "24: sc, random x defenses none, jpeg[quality=90], jpeg[quality=70] x training at "
        "rho_a 0, 4/255 x seeds 0, 1"
    )


@pytest.mark.parametrize(
    ("arguments", "cells"),
    [
        (("--seeds", "7"), "seeds 7"),
        (("--methods", "sem"), "12: sem x"),
        (("--set", "jpeg.quality=33"), "none, jpeg[quality=33] x"),
        (("--set", "sc.patch=4"), "sc[patch=4], random x defenses none, jpeg[quality=90], jpeg["),
        (("--clean",), "36: clean, sc, random x"),
    ],
)
def test_the_command_line_replaces_what_the_file_says(
    ubench: Command, workplace: Path, arguments: tuple[str, ...], cells: str
) -> None:
    (workplace / "grid.toml").write_text(GRID)
    assert cells in planned(ubench, "grid.toml", *arguments)


def test_a_written_plan_has_the_key_of_the_command_that_wrote_it(
    ubench: Command, workplace: Path
) -> None:
    asked = ["--methods", "sc", "--set", "training.lr=5e-2", "--set", "training.epochs=1", *DATA]
    asked += ["--defenses", "none,jpeg", "--no-clean", "--set", "jpeg.quality=90,10"]
    elsewhere = [*CPU, "--out", "out"]
    more = ["--export", "noise", "--stall-limit", "2h"]
    done = ubench("run", *asked, *elsewhere, *more, "--dry-run", "--write", "new/grid.toml")
    machine = "--out out --device cpu --export noise --stall-limit 2h\n"
    assert f"run it: ubench run new/grid.toml {machine}" in done.out
    assert not (workplace / "out").exists()
    assert tomllib.loads((workplace / "new" / "grid.toml").read_text()) == {
        "methods": "sc",
        "dataset": "npz:tiny.npz",
        "preset": "smoke",
        "defenses": "none,jpeg",
        "clean": False,
        "set": {"training.lr": "5e-2", "training.epochs": 1, "jpeg.quality": "90,10"},
    }
    assert ubench("run", *asked, *elsewhere).code == 0
    again = ubench("run", "new/grid.toml", *elsewhere)
    assert "0 cells computed, 3 reused" in again.out
    assert len(list((workplace / "out" / "plans").iterdir())) == 1


def test_a_plan_with_plugins_of_files_names_them_in_the_next_command(
    ubench: Command, workplace: Path
) -> None:
    (workplace / "my own.py").write_text(MINE)
    asked = ["--methods", "sc", *DATA, "--defenses", "mine", "--plugin", "my own.py"]
    done = ubench("run", *asked, *CPU, "--dry-run", "--write", "grid.toml")
    assert "run it: ubench run grid.toml --plugin 'my own.py'" in done.out


@pytest.mark.parametrize("of_a_file", [False, True])
def test_settings_of_the_executor_are_in_the_next_command(
    ubench: Command, workplace: Path, of_a_file: bool
) -> None:
    (workplace / "own.toml").write_text("[set]\nlocal.workers = 2\n")
    given = ("own.toml",) if of_a_file else ("--set", "local.workers=2")
    asked = [*given, "--methods", "sc", *DATA, "--preset", "smoke", "--executor", "local"]
    done = ubench("run", *asked, *CPU, "--dry-run", "--write", "grid.toml")
    (again,) = re.findall(r"run it: ubench (.*)", done.out)
    assert again == "run grid.toml --device cpu --executor local --set local.workers=2"
    assert "2 worker processes" in ubench(*again.split(), "--dry-run").out


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
numbers = st.one_of(st.integers(), st.floats(), st.booleans()).map(str)
values = st.one_of(texts, numbers, st.lists(st.one_of(texts, numbers), min_size=1))
options = st.dictionaries(st.from_regex(r"[a-z-]{1,5}\.[a-z_\"' é]{1,5}", fullmatch=True), values)


@given(options, texts, st.lists(texts, min_size=1), st.booleans())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    settings: dict[str, str | list[str]],
    name: str,
    names: list[str],
    clean: bool,
) -> None:
    path = tmp_path_factory.mktemp("plan") / "grid.toml"
    asked = {"methods": ["sem"], "learners": names, "dataset": name, "clean": clean}
    asked["set"] = settings
    plan_file.write(path, asked)
    read = {"set": {}, **plan_file.read(path)}
    read["set"] = {key: as_texts(value) for key, value in read["set"].items()}
    assert read == asked


def test_settings_in_tables_and_by_dotted_names_mean_the_same(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    forms = (
        '[set]\n"jpeg.quality" = [90, 70]\n"sem.steps" = 5',
        "[set]\njpeg.quality = [90, 70]\nsem.steps = 5",
        "[set.jpeg]\nquality = [90, 70]\n[set.sem]\nsteps = 5",
        "set.jpeg = {quality = [90, 70]}\nset.sem = {steps = 5}",
    )
    for form in forms:
        path.write_text(form)
        assert plan_file.read(path) == {
            "set": {"jpeg.quality": [90, 70], "sem.steps": 5},
        }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('metods = "sem"', "unknown key 'metods'; did you mean 'methods'? available: clean"),
        ('rho_a = "0"', "unknown key 'rho_a'; did you mean 'rho-a'?"),
        ("methods: sem", "grid.toml is not a TOML file: Expected '=' after a key"),
        ('methods = "a"\nmethods = "b"', "not a TOML file"),
        ('device = "cpu"', "device is not part of a plan; give --device on the command line"),
        ('plugin = "x.py"', "plugin is not part of a plan"),
        ('methods = ["sem", ["rem"]]', "grid.toml: methods takes a text"),
        ("methods = []", "grid.toml: methods '': give comma-separated names"),
        ("methods = 1979-05-27", "grid.toml: methods takes a text"),
        ('seeds = "4-1"', "grid.toml: seeds '4-1': a range must ascend"),
        ("seeds = [0.5]", "grid.toml: seeds '0.5': give comma-separated whole numbers"),
        ('rho-a = ["0", "4"]', "grid.toml: rho-a: '4' is not a radius"),
        ('protect = ["x"]', "grid.toml: protect 'x': give comma-separated shares"),
        ('preset = ["smoke", "fast"]', "grid.toml: preset takes one name, got a list of 2"),
        ('clean = "no"', "grid.toml: clean must be true or false, got 'no'"),
        ("set = 3", "grid.toml: set must be a table"),
        ("[set.sem.steps]\na = 1", "grid.toml: set sem.steps takes a text"),
        ('[set]\n"sem.steps" = 1\nsem.steps = 2', "set sem.steps is given twice"),
        ('methods = "sc"\n[set]\nsteps = 1', "--set steps=1: write SECTION.OPTION=VALUE"),
        ('methods = "sc"\n[set]\nsc.patch = [3, "x"]', "sc.patch takes int: got 'x'"),
        (
            'methods = "sc"\n[set]\nsc.patch = []',
            "sc.patch takes int, or several separated by commas",
        ),
        ("", "add --methods, such as --methods sem,rem"),
    ],
)
def test_a_plan_file_that_makes_no_sense_is_refused_in_one_line(
    refused: Callable[..., str], workplace: Path, text: str, words: str
) -> None:
    (workplace / "grid.toml").write_text(text)
    assert words in refused("run", "grid.toml", *CPU)


def test_what_is_no_file_of_text_is_refused(refused: Callable[..., str], workplace: Path) -> None:
    (workplace / "folder").mkdir()
    (workplace / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    assert "no plan file missing.toml; attacks" in refused("run", "missing.toml")
    assert "folder is a folder; a plan file is a TOML file" in refused("run", "folder")
    assert "bytes.toml is not a TOML file: it is not UTF-8" in refused("run", "bytes.toml")


@pytest.mark.parametrize("existing", ["grid.toml", "folder", "link"])
def test_writing_replaces_nothing(
    refused: Callable[..., str], workplace: Path, existing: str
) -> None:
    (workplace / "grid.toml").write_text("# mine")
    (workplace / "folder").mkdir()
    (workplace / "link").symlink_to("nowhere")
    line = ("run", "--methods", "sc", *DATA, *CPU, "--dry-run", "--write", existing)
    assert f"--write {existing} already exists" in refused(*line)


def test_a_plan_that_is_refused_or_cannot_be_written_leaves_nothing(
    refused: Callable[..., str],
) -> None:
    line = ("run", *DATA, *CPU, "--dry-run", "--write")
    assert "'semm'" in refused(*line, "grid.toml", "--methods", "semm")
    assert "--write /proc/grid.toml: " in refused(*line, "/proc/grid.toml", "--methods", "sc")


def test_a_plan_that_is_written_halfway_is_not_there(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    before = contents(workplace)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        UserError, match=r"grid\.toml .* cannot be written: no space left on the disk"
    ):
        plan_file.write(Path("grid.toml"), {"methods": "sem"})
    assert contents(workplace) == before
