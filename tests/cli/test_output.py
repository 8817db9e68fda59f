"""What the commands print."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import QUICK, Command, Result, contents, name_other_pixels, run_tiny

from unlearnable_bench import api
from unlearnable_bench.planning import registry
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.store import ResultsFolder

COMMANDS = ("run", "report", "compare", "list", "bench")


@pytest.mark.parametrize("command", [*((name,) for name in COMMANDS), ("data", "import")])
def test_help_of_every_command_has_an_example(ubench: Command, command: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        result = ubench(*command, flag)
        assert result.code == 0
        assert f"Example: ubench {' '.join(command)} " in " ".join(result.out.split())


def test_help_stands_where_nothing_is_asked(ubench: Command) -> None:
    result = ubench()
    assert result == ubench("--help")
    assert result.code == 0
    assert all(command in result.out for command in (*COMMANDS, "data"))


@pytest.mark.parametrize("kind", [*registry.REGISTRIES, "presets"])
def test_list_as_json_is_a_list_of_objects(ubench: Command, kind: str) -> None:
    result = ubench("list", kind, "--json")
    entries = json.loads(result.out)
    assert result.code == 0
    assert entries
    for entry in entries:
        assert entry.keys() == {"name", "summary", "needs", "options"}
        assert entry["summary"]
        for option in entry["options"]:
            assert option.keys() == {"name", "type", "range", "default", "summary"}
            assert all(option[key] for key in ("name", "type", "summary"))
    plain = ubench("list", kind).out
    assert [line.split()[0] for line in plain.splitlines()] == [entry["name"] for entry in entries]


def test_list_verbose_names_options_with_type_default_and_meaning(ubench: Command) -> None:
    text = ubench("list", "attacks", "--verbose").out
    assert "variant (official|misaligned|classwise, default official): " in text
    assert "rho_u (radius, default 8/255): radius of the noise, L-infinity" in text


def test_progress_names_cells_by_their_whole_label(ubench: Command) -> None:
    out = ubench(*run_tiny("--methods", "sem", "--set", "sem.steps=3")).out
    assert "done: sem[steps=3], small-cnn, rho_a 0, seed 0: " in out


def test_a_table_is_whole_where_no_terminal_is(
    ubench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    radii = ",".join(f"{k}/255" for k in range(1, 8))
    out = ubench(*run_tiny("--methods", "random", "--no-clean", "--rho-a", radii)).out
    header = next(line for line in out.splitlines() if "Method" in line)
    assert all(f"rho_a {k}/255" in header for k in range(1, 8))


def test_a_dry_run_shows_the_plan_and_writes_nothing(ubench: Command, workplace: Path) -> None:
    before = contents(workplace)
    result = ubench(*run_tiny("--methods", "sem,em", "--rho-a", "0,4/255", "--dry-run"))
    assert result.code == 0
    assert "cells     6: clean, sem, em x training at rho_a 0, 4/255 x seeds 0" in result.out
    assert contents(workplace) == before


def test_the_default_folder_is_named_after_data_and_preset(
    ubench: Command, workplace: Path
) -> None:
    ubench("run", *QUICK, "--methods", "clean", "--dataset", "npz:tiny.npz")
    assert len(api.load_records(workplace / "results" / "npz-tiny-smoke")) == 1


def test_report_writes_to_a_file(ubench: Command, workplace: Path) -> None:
    shown = ubench("report", "results", "--format", "csv")
    written = ubench("report", "results", "--format", "csv", "--output", "table.csv")
    assert written == Result(0, "", "")
    assert (workplace / "table.csv").read_text() == shown.out


def test_two_folders_are_compared_cell_by_cell(ubench: Command, workplace: Path) -> None:
    options = ("--methods", "sem", "--rho-a", "0,4/255", "--set", "sem.steps=2")
    assert ubench(*run_tiny(*options, "--out", "one")).code == 0
    assert ubench(*run_tiny(*options, "--set", "training.lr=0.05", "--out", "two")).code == 0
    result = ubench("compare", "one", "two")
    assert result.code == 0
    lines = [[part.strip() for part in line.split("│")[1:-1]] for line in result.out.splitlines()]
    rows = [line for line in lines if line]
    assert [row[:2] for row in rows] == [
        [method, rho_a] for method in ("clean", "sem[steps=2]") for rho_a in ("0", "4/255")
    ]
    frames = [api.load_records(workplace / name) for name in ("one", "two")]
    found = [frame.set_index(["attack", "rho_a"])["test_accuracy"] for frame in frames]
    for method, rho_a, *shown in rows:
        one, two = (accuracy[method, rho_a] for accuracy in found)
        assert shown == ["1", f"{one:.1f}", f"{two:.1f}", f"{two - one:+.1f}"]
    assert "(4 cells)" in result.out
    assert "Poisoned images differ" not in result.out
    key = frames[1].set_index(["attack", "rho_a"])["key"]["sem[steps=2]", "0"]
    name_other_pixels(workplace / "two" / "cells" / f"{key}.json")
    said = "Poisoned images differ between the two sides: sem[steps=2], 0."
    assert said in ubench("compare", "one", "two").out.splitlines()


def test_two_presets_of_a_folder_are_compared_on_the_same_noise(
    ubench: Command, workplace: Path
) -> None:
    options = run_tiny("--methods", "random", "--seeds", "0,1", "--out", "both")
    assert ubench(*options).code == 0
    paper = ["paper" if word == "smoke" else word for word in map(str, options)]
    short = ("--learners", "small-cnn", "--precision", "fp32", "--set", "training.steps=3")
    epochs = paper.index("training.epochs=1")
    assert ubench(*paper[: epochs - 1], *paper[epochs + 1 :], *short).code == 0
    result = ubench("compare", "both", "--presets", "smoke,paper")
    assert (result.code, result.err) == (0, "")
    frame = api.load_records(workplace / "both")
    means = frame.groupby(["attack", "preset"], sort=False)["test_accuracy"].mean()
    presets = sorted({*frame["preset"]}, key=lambda name: not name.startswith("smoke"))
    gaps = {}
    for method in ("clean", "random"):
        one, two = (means[method, preset] for preset in presets)
        gaps[method] = abs(two - one)
        shown = f"{one:.1f} │ {two:.1f} │ {two - one:+.1f}"
        assert shown.replace(" ", "") in result.out.replace(" ", "")
    worst = max(gaps, key=lambda name: gaps[name])
    average = sum(gaps.values()) / 2
    assert f"{average:.1f} points on average, at most {gaps[worst]:.1f} ({worst})" in result.out
    assert "poison" not in result.out.partition("Settings that differ")[2]


@pytest.mark.usefixtures("workplace")
def test_a_preset_is_compared_and_not_its_variants(
    ubench: Command, refused: Callable[..., str]
) -> None:
    options = run_tiny("--methods", "random", "--out", "both")
    assert ubench(*options).code == 0
    assert ubench(*options, "--set", "training.lr=0.02").code == 0
    (plain, varied) = sorted({*api.load_records("both")["preset"]}, key=len)
    out = ubench("compare", "both", "--presets", f"{plain},{varied}").out
    frame = api.load_records("both")
    for attack, group in frame.groupby("attack"):
        one, two = (
            group["test_accuracy"][group["preset"] == name].item() for name in (plain, varied)
        )
        row = next(line for line in out.splitlines() if f" {attack} " in line)
        assert f"{one:.1f} │ {two:.1f}".replace(" ", "") in row.replace(" ", "")
    # Without the plain one, its name means the variants, but not the other side's.
    for path in Path("both/cells").iterdir():
        if json.loads(path.read_bytes())["preset"] == plain:
            path.unlink()
    assert "unknown preset 'smoke'" in refused("compare", "both", "--presets", f"smoke,{varied}")
    Path("empty").mkdir()
    Path("empty/ubench.json").write_bytes(Path("both/ubench.json").read_bytes())
    assert "empty has no finished cell to compare" in refused("compare", "both", "empty")


@pytest.mark.usefixtures("workplace")
def test_other_seeds_are_shown_and_left_out_of_what_is_said(ubench: Command) -> None:
    for name, *seeds in (("one", "0", "1"), ("two", "0", "2")):
        for method, seed in zip(("random", "sc"), seeds, strict=True):
            options = ("--methods", method, "--no-clean", "--seeds", seed, "--out", name)
            assert ubench(*run_tiny(*options)).code == 0
    for name, seed in (("three", "0"), ("four", "1")):
        options = ("--methods", "sc", "--no-clean", "--seeds", seed, "--out", name)
        assert ubench(*run_tiny(*options)).code == 0
    apart = ubench("compare", "three", "four").out
    assert "no pair of noise and learner seed in common: no correlation." in apart
    assert "points on average" not in apart
    out = ubench("compare", "one", "two").out
    assert "│ others │" in out
    assert "The two means of 1 cell are of other seeds (others); what follows is without." in out
    assert "(1 cell)" in out


def test_a_comparison_has_two_sides(refused: Callable[..., str]) -> None:
    assert "give a second results folder, or --presets fast,paper" in refused("compare", "results")
    assert "give two, such as" in refused("compare", "results", "--presets", "smoke")
    assert "unknown preset 'x'" in refused("compare", "results", "--presets", "smoke,x")


def test_only_results_folders_are_compared(refused: Callable[..., str]) -> None:
    assert "ubench run" in refused("compare", "results", "nowhere")


def test_a_radius_is_shown_as_it_was_written(ubench: Command) -> None:
    out = ubench(*run_tiny("--methods", "clean", "--rho-a", "2/510")).out
    assert "rho_a 2/510" in out
    assert str(Radius("1/255")) not in out


def test_the_installed_command_fails_and_helps_alike(workplace: Path) -> None:
    command = shutil.which("ubench", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("ubench is not installed beside this Python")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [command, *arguments], capture_output=True, text=True, check=False, env=environment
        )

    before = contents(workplace)
    done = call("run", "--methods", "semm", "--preset", "smoke")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ubench: unknown attack 'semm'; did you mean 'sem'?")
    assert done.stderr.count("\n") == 1
    done = call("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(workplace) == before


def test_a_report_of_an_unfinished_plan_says_so(ubench: Command, workplace: Path) -> None:
    (plan,) = (path.stem for path in (workplace / "results" / "plans").iterdir())
    whole = ubench("report", "results", "--plan", plan)
    assert (whole.code, whole.err) == (0, "")
    min((workplace / "results" / "cells").iterdir()).unlink()
    result = ubench("report", "results", "--plan", plan)
    assert result.code == 0
    assert result.err.startswith("ubench: 1 of the plan's 2 cells are not finished")


@pytest.mark.parametrize(
    "asked",
    [
        ("run", "--methods", "random", "--no-clean"),
        ("correlate", "--surrogate-rho-a", "0,1/255", "--noise=none"),
    ],
)
def test_a_plan_keeps_the_command_that_was_typed(
    ubench: Command, workplace: Path, asked: tuple[str, ...]
) -> None:
    (workplace / "tiny.npz").rename(workplace / "my tiny.npz")
    command = [*asked, *QUICK, "--dataset", "npz:my tiny.npz", "--out", "out"]
    command += ["--set", "small-cnn.width=4"]
    if asked[0] == "correlate":
        command += ["--set", "sem.steps=2", "--set", "sem.noise_steps=1"]
    result = ubench(*command)
    assert result.code == 0, result.err
    (plan,) = ResultsFolder(workplace / "out").plans().values()
    assert plan["command"].startswith(f"ubench {asked[0]} ")
    assert shlex.split(plan["command"]) == ["ubench", *command]


def test_the_next_command_is_one_that_works(ubench: Command) -> None:
    out = ubench(*run_tiny("--methods", "random", "--out", "my results")).out
    line = next(line for line in out.splitlines() if line.startswith("next: "))
    program, *arguments = shlex.split(line.removeprefix("next: "))
    assert (program, arguments[:2]) == ("ubench", ["report", "my results"])
    assert "Random" in ubench(*arguments).out


def test_the_plan_shows_every_surrogate(ubench: Command) -> None:
    swept = run_tiny("--methods", "sem", "--set", "small-cnn.width=4,8", "--dry-run")
    assert "; surrogate small-cnn[width=4], small-cnn[width=8]; " in ubench(*swept).out
    assert "; surrogate small-cnn; " in ubench(*run_tiny("--methods", "sem", "--dry-run")).out
