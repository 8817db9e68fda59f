"""From a command to a table: what is computed, kept, found again and reported."""

import csv
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import processes
import pytest
from typer.testing import CliRunner

from unlearnable_bench import api
from unlearnable_bench.cli import app
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.store import ResultsFolder

MAIN = "from unlearnable_bench.cli import main; main()"
COLUMNS = [
    *("dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset"),
    *("test_accuracy_mean", "test_accuracy_std", "seeds"),
    *("generation_seconds", "preparation_seconds", "training_seconds", "device"),
    *("attack_needs", "defense_needs", "learner_needs"),
]
SETTINGS = {"training.epochs": "2"}


def installed(*arguments: str) -> str:
    """Run the installed command in a process of its own and return what it prints."""
    found = shutil.which("ubench", path=str(Path(sys.executable).parent))
    command = [found, *arguments] if found else [sys.executable, "-c", MAIN, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def ubench(*arguments: str) -> str:
    """Run the command in this process and return what it prints."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert (done.exit_code, done.stderr) == (0, ""), done.exception
    return done.stdout


def run_arguments(data: Path, out: Path, *more: str, **settings: str) -> list[str]:
    changed = SETTINGS | {key.replace("_", ".", 1): value for key, value in settings.items()}
    return [
        *("run", "--preset", "smoke", "--device", "cpu", "--dataset", f"npz:{data}"),
        *("--out", str(out), *more),
        *(part for key, value in changed.items() for part in ("--set", f"{key}={value}")),
    ]


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if set("│┃├┡┏└") & set(line)]


def computed(text: str) -> tuple[int, int]:
    """Return how many cells were computed and reused."""
    (line,) = [line for line in text.splitlines() if " computed, " in line]
    words = line.split()
    return int(words[0]), int(words[3])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
    found: dict[str, Any] = {"class_names": np.array(list("abcd"))}
    for split, count in (("train", 120), ("test", 40)):
        labels = np.arange(count) % 4
        images = colours[labels][:, None, None] + random.normal(0, 40, (count, 16, 16, 3))
        found |= {f"x_{split}": np.clip(images, 0, 255).astype(np.uint8), f"y_{split}": labels}
    path = tmp_path_factory.mktemp("data") / "tiny_set.npz"
    np.savez(path, **found)
    return path


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """The results folder, the command and the output of a first run."""
    out = tmp_path_factory.mktemp("first") / "out"
    asked = ("--methods", "sem,random", "--rho-a", "0,2/255", "--seeds", "0,1")
    arguments = run_arguments(data, out, *asked, sem_steps="3")
    return out, arguments, installed(*arguments)


def records(out: Path) -> list[Record]:
    return list(ResultsFolder(out).records())


def test_a_run_prints_a_table_of_what_it_computed(first: tuple[Path, list[str], str]) -> None:
    out, _, shown = first
    assert computed(shown) == (12, 0)
    assert "rho_a 0" in table(shown)[1]
    assert "rho_a 2/255" in table(shown)[1]
    names = [line.split("│")[1].strip() for line in table(shown) if "±" in line]
    assert names == ["Clean", "Random", "SEM (steps=3)"]
    values = [r.test_accuracy for r in records(out) if (r.attack, r.rho_a) == ("random", "0")]
    mean, spread = statistics.mean(values), statistics.stdev(values)
    assert f"{mean:.1f} ± {spread:.1f}" in next(line for line in table(shown) if "Random" in line)


def test_a_second_run_computes_nothing_and_prints_the_same_table(
    first: tuple[Path, list[str], str],
) -> None:
    out, arguments, shown = first
    results = [*out.glob("cells/*"), *out.glob("poisons/*")]
    before = [path.read_bytes() for path in results]
    again = ubench(*arguments)
    assert computed(again) == (0, 12)
    assert "nothing to compute" in again
    assert table(again) == table(shown)
    assert [*out.glob("cells/*"), *out.glob("poisons/*")] == results
    assert [path.read_bytes() for path in results] == before


def test_records_come_in_the_order_in_which_they_were_made(
    first: tuple[Path, list[str], str],
) -> None:
    """Also where several are made within one second."""
    out, _, _ = first
    (asked,) = ResultsFolder(out).plans().values()
    assert [*api.load_records(out)["key"]] == asked["cells"]


def test_records_are_json_with_the_documented_fields(first: tuple[Path, list[str], str]) -> None:
    out, _, _ = first
    for path in out.glob("cells/*.json"):
        raw = json.loads(path.read_text(encoding="utf-8"))
        fields = {field.name for field in msgspec.structs.fields(Record)}
        assert raw.keys() == fields - {"noise_seed"} | {"checksum"}
        assert raw["key"] == path.stem
        assert raw["dataset"] == "npz:tiny_set"
        assert 0 <= raw["test_accuracy"] <= raw["peak_accuracy"] <= 100
        assert raw["test_accuracy"] == raw["epoch_accuracy"][-1]
        assert len(raw["epoch_accuracy"]) == 2
        assert raw["poison"].keys() >= {"key", "sha256", "budget", "notes", "seconds", "resumed"}
        value = "0" if raw["attack"] == "clean" else "8/255"
        assert raw["rho_u"] == {"norm": "linf", "value": value}
        assert raw["environment"]["packages"]["torch"]
        assert raw["seconds"].keys() == {"preparation", "training", "warmup", "evaluation"}
        assert all(seconds >= 0 for seconds in raw["seconds"].values())
        assert raw["seconds"]["training"] > 0
    assert not list(out.rglob("*.tmp"))


def test_reports_match_the_records_by_hand(first: tuple[Path, list[str], str]) -> None:
    out, _, _ = first
    frame = api.load_records(out)
    rows = list(csv.DictReader(io.StringIO(api.render(frame, "csv"))))
    objects = json.loads(api.render(frame, "json"))
    assert len(rows) == len(objects) == 6
    for row, one in zip(rows, objects, strict=True):
        assert list(row) == list(one) == COLUMNS
        alike = [r for r in records(out) if (r.attack, r.rho_a) == (row["attack"], row["rho_a"])]
        values = [r.test_accuracy for r in alike]
        assert int(row["seeds"]) == one["seeds"] == len(values) == 2
        for found in (float(row["test_accuracy_mean"]), one["test_accuracy_mean"]):
            assert found == pytest.approx(statistics.mean(values))
        for found in (float(row["test_accuracy_std"]), one["test_accuracy_std"]):
            assert found == pytest.approx(statistics.stdev(values))
        made = statistics.mean(r.poison["seconds"] for r in alike)
        trained = statistics.mean(r.seconds["training"] for r in alike)
        assert one["generation_seconds"] == pytest.approx(made, abs=0.006)
        assert one["training_seconds"] == pytest.approx(trained, abs=0.006)
        assert one["device"] == row["device"] == alike[0].environment["device"]
    markdown = api.render(frame, "markdown")
    assert "| SEM (steps=3) | " in markdown
    assert ubench("report", str(out)) == markdown


def balanced(text: str) -> bool:
    depth = 0
    for k, character in enumerate(text):
        if k and text[k - 1] == "\\":
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def test_the_latex_report_is_whole(first: tuple[Path, list[str], str]) -> None:
    out, _, _ = first
    text = api.render(api.load_records(out), "latex", document="true")
    assert balanced(text)
    assert all(text.count(rule) == 1 for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"npz:tiny\_set" in text
    body = text.partition("\\midrule\n")[2].partition("\n\\bottomrule")[0]
    rows = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines()]
    assert [row[0] for row in rows] == ["Clean", "Random", "SEM (steps=3)"]
    frame = api.load_records(out)
    for attack, (_, *numbers) in zip(("clean", "random", "sem[steps=3]"), rows, strict=True):
        expected = []
        for rho_a in ("0", "2/255"):
            same = (frame["attack"] == attack) & (frame["rho_a"] == rho_a)
            values = [*frame[same]["test_accuracy"]]
            expected += [f"{statistics.mean(values):.1f}", f"{statistics.stdev(values):.1f}"]
        # A learner that learned nothing has a mark behind its number.
        assert [number.partition(" {")[0] for number in numbers] == expected
    assert not re.search(r"\\textbf|\\bfseries|\\bf", body)  # two seeds


def test_the_latex_report_compiles(first: tuple[Path, list[str], str], tmp_path: Path) -> None:
    engine = shutil.which("tectonic") or shutil.which("pdflatex")
    assert engine is not None, "install texlive-latex-recommended and texlive-science"
    text = api.render(api.load_records(first[0]), "latex", document="true")
    (tmp_path / "table.tex").write_text(text)
    flags = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    subprocess.run([engine, *flags, "table.tex"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "table.pdf").stat().st_size > 0


def quick_run(data: Path, out: Path, methods: Iterable[str], **asked: Any) -> str:
    """Run a plan in this process; return its key."""
    settings = {"training.epochs": "1"}
    plan = api.make_plan(methods=list(methods), dataset=f"npz:{data}", settings=settings, **asked)
    summary = api.run(plan, out, device="cpu")
    assert not summary.failures
    return plan.key


def test_a_second_plan_adds_cells_and_each_shows_its_own(data: Path, tmp_path: Path) -> None:
    one = quick_run(data, tmp_path / "out", ["random"])
    assert len(records(tmp_path / "out")) == 2
    two = quick_run(data, tmp_path / "out", ["random"], rho_a=[Radius("2/255")], clean=False)
    assert len(records(tmp_path / "out")) == 3
    plans = ResultsFolder(tmp_path / "out").plans()
    assert plans.keys() == {one, two}

    def shown(plan: str) -> list[tuple[str, str]]:
        frame = api.load_records(tmp_path / "out", plans[plan]["cells"])
        return list(zip(frame["attack"], frame["rho_a"], strict=True))

    assert shown(one) == [("clean", "0"), ("random", "0")]
    assert shown(two) == [("random", "2/255")]
    text = ubench("report", str(tmp_path / "out"), "--plan", two)
    assert "| Clean" not in text
    assert "| Method | rho_a 2/255 |" in text
    assert "| Random | " in text


def test_copying_one_folder_over_another_is_their_union(data: Path, tmp_path: Path) -> None:
    quick_run(data, tmp_path / "a", ["random"])
    quick_run(data, tmp_path / "b", ["random"], rho_u=[Radius("4/255")])
    separate = {r.key: r.test_accuracy for out in "ab" for r in records(tmp_path / out)}
    shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
    assert {r.key: r.test_accuracy for r in records(tmp_path / "b")} == separate
    assert len(separate) == 3
    assert len(ResultsFolder(tmp_path / "b").plans()) == 2


def test_a_second_replicate_differs_from_the_first(first: tuple[Path, list[str], str]) -> None:
    noises = {r.poison["sha256"] for r in records(first[0]) if r.attack == "random"}
    assert len(noises) == 2


def test_the_same_run_elsewhere_gives_the_same_bytes(
    first: tuple[Path, list[str], str], data: Path, tmp_path: Path
) -> None:
    ubench(*run_arguments(data, tmp_path / "out", "--methods", "sem", sem_steps="3"))
    there = {record.key: record for record in records(first[0])}
    for record in records(tmp_path / "out"):
        twin = there[record.key]
        assert record.test_accuracy == twin.test_accuracy
        assert record.train_accuracy == twin.train_accuracy
        assert record.poison["sha256"] == twin.poison["sha256"]


def test_two_runs_at_once_share_the_work(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("--methods", "sem", "--rho-a", "0,2/255", "--seeds", "0,1")
    arguments = run_arguments(data, out, *asked, sem_steps="3")
    out.mkdir()
    logs = [tmp_path / f"log {k}" for k in range(2)]
    assert processes.finish(*(processes.start(*arguments, output=log) for log in logs)) == [0, 0]
    texts, errors = zip(*map(processes.printed, logs), strict=True)
    told = [line for text in errors for line in text.splitlines()]
    # On a busy machine one may wait so long for the other that it says so.
    assert [line for line in told if not line.startswith("ubench: waiting for ")] == []
    counts = list(map(computed, texts))
    assert sum(count for count, _ in counts) == 8
    assert [sum(pair) for pair in counts] == [8, 8]
    assert len(records(out)) == 8
    assert table(texts[0]) == table(texts[1])


def test_the_first_command_of_the_readme_runs_on_embedded_data(tmp_path: Path) -> None:
    settings = {
        "shapes.train": "100",
        "shapes.test": "20",
        "training.epochs": "2",
        "sem.steps": "2",
        "rem.steps": "2",
    }
    shown = ubench(
        *("run", "--methods", "sem,rem", "--rho-a", "4/255", "--preset", "smoke"),
        *("--device", "cpu", "--out", str(tmp_path / "out")),
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    )
    assert computed(shown) == (3, 0)
    assert {r.attack for r in records(tmp_path / "out")} == {
        "clean",
        "rem[steps=2]",
        "sem[steps=2]",
    }
    assert "rho_a 4/255" in table(shown)[1]
