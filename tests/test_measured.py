"""Measured figures that the documents show are those of the records beside them."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from unlearnable_bench import api
from unlearnable_bench.cli import app
from unlearnable_bench.datasets.shapes import Shapes
from unlearnable_bench.presets import load_preset
from unlearnable_bench.reports import published
from unlearnable_bench.reports.cost import cost_tables
from unlearnable_bench.results.comparison import compare, rank_correlation
from unlearnable_bench.results.frame import select
from unlearnable_bench.results.marker import TEXT
from unlearnable_bench.results.rendering import default_tables
from unlearnable_bench.results.samples import read_strip
from unlearnable_bench.results.versions import earlier
from unlearnable_bench.screen import console
from unlearnable_bench.screen.terminal import print_table

ROOT = Path(__file__).parent.parent
CARD = ROOT / "benchmarks" / "h200"
ALL = select(api.load_records([CARD / "cifar10-both", CARD / "cifar10-fast"]), preset=["fast"])
MEASURED = ALL[~earlier(ALL).any(axis=1)]  # --newest

METHODS = {
    "Clean": "clean", "Random": "random", "SC (L2 1.3)": "sc", "EM": "em", "TAP": "tap",
    "NTGA": "ntga", "REM": "rem", "SEM": "sem",
}  # fmt: skip


def accuracy(attack: str, defense: str, rho_a: str) -> str:
    same = (MEASURED[["attack", "defense", "rho_a"]] == [attack, defense, rho_a]).all(axis=1)
    return f"{MEASURED[same]['test_accuracy'].mean():.1f}"


def rows(document: str, heading: str, bar: str) -> list[list[str]]:
    """Return the cells of the table in a section, row by row."""
    text = (ROOT / document).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith(bar)]
    return [[cell.strip() for cell in line.split(bar)[1:-1]] for line in lines]


def test_the_readme_shows_the_records() -> None:
    found = rows("README.md", "On CIFAR-10", "│")
    assert [row[0] for row in found] == [*METHODS]
    for name, standard, adversarial in found:
        assert standard.partition(" ")[0] == accuracy(METHODS[name], "none", "0")
        assert adversarial.partition(" ")[0] == accuracy(METHODS[name], "none", "4/255")


def test_the_readme_shows_what_the_command_prints() -> None:
    shown = MEASURED[MEASURED["attack"].isin(METHODS.values())]  # REM of 500 steps is for compare
    table, *_ = default_tables(select(shown, attack=[*METHODS.values()]))
    printed = io.StringIO()
    print_table(Console(file=printed), table)
    assert printed.getvalue().strip() in (ROOT / "README.md").read_text(encoding="utf-8")


STAND_IN = """#!{python} -IS
import json, pathlib, sys
asked = sys.argv[1:]
with open("{calls}", "a") as file:
    file.write(json.dumps(asked) + chr(10))
if asked[0] == "run":
    poison = pathlib.Path(asked[asked.index("--out") + 1], "poisons", "0.safetensors")
    poison.parent.mkdir(parents=True, exist_ok=True)
    poison.touch()
    pathlib.Path(asked[asked.index("--out") + 1], "ubench.json").write_text({marker!r})
"""


def test_the_script_asks_for_what_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, stand_in = tmp_path / "calls", tmp_path / "bin" / "ubench"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN.format(python=sys.executable, calls=calls, marker=TEXT))
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent), prepend=os.pathsep)
    script = ["bash", str(ROOT / "benchmarks" / "measure.sh")]
    wrong = subprocess.run([*script, tmp_path / "no", "nope"], capture_output=True, check=False)
    assert (wrong.returncode, calls.exists()) == (2, False)
    studies = wrong.stderr.decode().partition("there are ")[2].split()
    assert {"bench", "fast", "growth", "main", "presets"} < {*studies}
    subprocess.run([*script, tmp_path / "out", *studies], check=True)
    asked = [json.loads(line) for line in calls.read_text().splitlines()]
    assert sorted(call[0] for call in asked) == ["bench"] * 2 + ["run"] * 29
    monkeypatch.setattr(console, "estimate", lambda *_, **__: "not timed")
    small = Shapes(train=900, test=100).load()  # NTGA needs a block and two fifths of the set
    monkeypatch.setattr(Shapes, "load", lambda _: small)
    for call in asked:
        if call[0] == "run" and not any("file:" in word for word in call):
            shapes = ["shapes" if word.startswith("cifar10") else word for word in call]
            result = CliRunner().invoke(app, [*shapes, "--dry-run"])
            assert result.exit_code == 0, result.output
    assert sum("file:bf16.safetensors,file:fp32.safetensors" in call for call in asked) == 1
    for kind in ("bf16", "fp32"):
        assert (tmp_path / "out" / f"{kind}.safetensors").exists()


def kept(name: str) -> Any:
    return json.loads((CARD / name).read_text(encoding="utf-8"))


def test_no_cell_is_there_twice() -> None:
    """An old record beside a new one would be averaged with it, as if it were another seed."""
    assert not MEASURED.duplicated(
        ["attack", "learner", "defense", "rho_a", "preset", "seed", "noise_seed"]
    ).any()


def test_the_table_of_the_benchmark_shows_what_was_measured() -> None:
    measured = kept("bench.json")["measurements"]
    found = [row for row in rows("docs/performance.md", "Measuring", "|") if row[0] != "column"]
    table = {tuple(row[:3]): row[3:] for row in found if len(row) == 9}
    for row in measured:
        name = row["job"], str(row["batch"]), str(row["cells"])
        assert table[name] == [
            f"{row['milliseconds']:.2f}",
            f"{row['images_per_second']:,.0f}",
            f"{row['tflops']:.0f}",
            f"{100 * row['share']:.0f} %",
            f"{row['eager_ratio']:.1f}",
            f"{row['peak_memory_mib']:,.0f}",
        ]
    assert len(table) == len(measured) + 2  # heading and rule


def test_the_table_of_growth_shows_what_was_measured() -> None:
    found = [row for row in rows("docs/performance.md", "How cost grows", "|") if len(row) == 5]
    expected = []
    for row in kept("growth.json")["growth"]:
        epoch, milliseconds = row["seconds_per_epoch"], row["milliseconds"]
        time = f"{milliseconds:.2f} ms" if epoch is None else f"{epoch:.2f} s an epoch"
        cells = row["parameter"], f"{row['value']:,}", row["job"], time
        expected.append([*cells, f"{row['peak_memory_mib']:,.0f}"])
    assert found[2:] == expected


def test_the_table_of_precisions_shows_the_records() -> None:
    records = api.load_records(CARD / "cifar10-precision")
    accuracy = records.set_index(["attack", "rho_a", "seed"])["test_accuracy"]
    steps = records[records["attack"] == "sem[steps=1500]"]
    fp32 = steps["preset"].str.contains("precision=fp32")
    seconds = {
        "fp32": steps[fp32]["generation_seconds"],
        "bf16": steps[~fp32]["generation_seconds"],
    }
    about: list[str] = ["", "", ""]
    found = rows("docs/performance.md", "bf16 and fp32", "|")[2:]
    for precision, noise, took, learner, *figures in found:
        about = [new or old for new, old in zip((precision, noise, took), about, strict=True)]
        assert {about[2]} == {f"{value:,.0f}" for value in seconds[about[0]]}
        name = f"file[path={about[0]}.safetensors]" if about[1] == "0" else "sem[steps=1500]"
        for rho_a, figure in zip(("0", "4/255"), figures, strict=True):
            assert not figure or figure == f"{accuracy[name, rho_a, int(learner)]:.1f}"
    shown = sum(bool(figure) for row in found for figure in row[4:])
    assert shown == len(records) - 1  # the cell beside the fp32 noise


def test_the_table_of_newer_methods_shows_the_records() -> None:
    shown = rows("benchmarks/README.md", "Methods of 2022 to 2026", "|")[2:]
    records = api.load_records(CARD / "cifar10-methods")
    assert {row[0].lower() for row in shown} == set(records["attack"])
    for name, seconds, *accuracies, poisoned in shown:
        undefended = select(records, attack=[name.lower()], defense=["none"])
        cells = undefended.set_index("rho_a")
        found = {rho_a: f"{cell:.1f}" for rho_a, cell in cells["test_accuracy"].items()}
        assert accuracies == [found.get(rho_a, "") for rho_a in ("0", "4/255", "8/255")], name
        share = cells["poisoned_test_accuracy"].get("0")
        assert poisoned == ("" if pd.isna(share) else f"{share:.1f}"), name
        assert seconds in ("", *(f"{cell:.0f}" for cell in cells["generation_seconds"])), name


def test_the_tables_of_defenses_show_the_records() -> None:
    newer, _, *shown, older, _, em, sem = rows("benchmarks/README.md", "Defenses", "|")
    names = {"op": "orthogonal-projection"}
    for folder, (_, *defenses), found in (
        ("cifar10-methods", newer, shown),
        ("cifar10-fast", older, [em, sem]),
    ):
        records = select(api.load_records(CARD / folder), rho_a=["0"])
        for name, *accuracies in found:
            cells = select(records, attack=[name.lower()]).set_index("defense")["test_accuracy"]
            columns = [names.get(defense.lower(), defense.lower()) for defense in defenses]
            assert accuracies == [f"{cells[column]:.1f}" for column in columns]
        measured = records[records["defense"] != "none"]["attack"]
        assert {row[0].lower() for row in found} == set(measured)
    newest = select(api.load_records(CARD / "cifar10-methods"), defense=["d-vae"])
    own_work = f"{newest['preparation_seconds'].item():.0f} s"
    assert f"D-VAE's own work took {own_work}" in (ROOT / "benchmarks" / "README.md").read_text()
    assert f"[{own_work}](../benchmarks" in (ROOT / "docs" / "methods.md").read_text()


def test_the_text_on_newer_methods_names_the_quality_of_the_records() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    records = api.load_records(CARD / "cifar10-methods")
    quality = records[records["attack"] != "clean"].groupby("attack")["psnr"].first()
    shown = dict(
        re.findall(
            r"([A-Za-z-]+)\s([0-9.]+)[,.](?:\s|$)",
            text.partition("PSNR in dB")[2].partition("\n\n")[0],
        )
    )
    assert {name.lower(): value for name, value in shown.items()} == {
        name: f"{value:.1f}" for name, value in quality.items()
    }


def test_the_table_of_mi_ue_shows_the_records() -> None:
    shown = rows("benchmarks/README.md", "MI-UE", "|")[2:]
    records = api.load_records([CARD / "cifar10-methods", CARD / "cifar10-mi-ue"])
    forms = {
        "mi-ue": "100",
        "mi-ue[epochs=30,variant=misaligned]": "30",
        "mi-ue[alpha_a=16/255,epochs=25,rho_a=8/255,variant=misaligned]": "25",
    }
    for (_, version, epochs, *accuracies), form in zip(shown, forms, strict=False):
        cells = records[(records["attack"] == form) & (records["defense"] == "none")]
        cells = cells.set_index("rho_a")
        assert accuracies == [f"{cells['test_accuracy'][rho_a]:.1f}" for rho_a in ("0", "4/255")]
        assert epochs == forms[form]
        assert version.startswith("2" if form == "mi-ue" else "3")
    known = select(
        published.figures(), source=["MI-UE paper"], dataset=["cifar10"], noise=["mi-ue"]
    )
    known = select(known, learner=["resnet18"], defense=["none"]).set_index("rho_a")["accuracy"]
    assert shown[-1][3:] == [f"{known[rho_a]:.1f}" for rho_a in ("0", "4/255")]


def test_fast_agrees_with_paper() -> None:
    records = api.load_records(CARD / "cifar10-both")
    both = compare(*(select(records, preset=[name]) for name in ("fast", "paper")))
    gaps = (both["first"] - both["second"]).abs()
    assert f"by up to {gaps.max():.1f} points" in load_preset("fast").caveat
    most = both.loc[gaps.idxmax()]
    assert "(REM, 500 steps)" in load_preset("fast").caveat
    assert (most["attack"], most["defense"], most["rho_a"]) == ("rem[steps=500]", "none", "0")
    assert rank_correlation(both) >= 0.9
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    found = f"rank correlation {rank_correlation(both):.3f} over {len(both)} cells; differences are"
    assert f"{found} {gaps.mean():.1f} points on average, at most {gaps.max():.1f}" in text
    shown = rows("benchmarks/README.md", "`fast` compared with `paper`", "|")[2 : 2 + len(both)]
    ordered = both.set_index(["attack", "defense", "rho_a"])
    method = ""
    for name, defense, rho_a, noises, *figures in shown:
        method = name.lower().replace(" (steps=500)", "[steps=500]") or method
        cell = ordered.loc[(method, defense, rho_a)]
        assert noises == ("" if method == "clean" else str(cell["pairs"]))
        assert figures == [f"{cell['first']:.1f}", f"{cell['second']:.1f}"], (method, rho_a)
    assert len({tuple(row[1:]) for row in shown}) == len(both)
    standard = records[(records["preset"] == "paper") & (records["rho_a"] == "0")]
    # Clean, and two noises of six methods, under two defenses.
    assert len(standard) == 26
    of = records.set_index(["attack", "preset", "noise_seed", "defense", "rho_a"])["test_accuracy"]
    for preset, figures in (("fast", "11.4 and 38.1"), ("paper", "11.9\nand 38.8")):
        noises = [of["sem", preset, seed, "grayscale", "0"] for seed in (0, 1)]
        assert "{:.1f} and {:.1f}".format(*noises) == figures.replace("\n", " ")
        assert f"{figures} % with `{preset}`" in text


def test_the_two_figures_of_the_papers_page_are_beside_those_of_the_records() -> None:
    robust = MEASURED[(MEASURED["rho_a"] == "4/255") & (MEASURED["defense"] == "none")]
    rem, sem = (robust[robust["attack"] == attack] for attack in ("rem", "sem"))
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    left, (first, second) = rem["test_accuracy"].item(), sorted(sem["test_accuracy"])
    gap = left - sem["test_accuracy"].mean()
    assert f"REM leaves {left:.1f} % and two of SEM {first:.1f} and {second:.1f}: {gap:.1f}" in text
    assert f"or {100 * gap / left:.0f} % relative" in text
    slow, quick = rem["generation_seconds"].item(), sem["generation_seconds"]
    low, high = sorted(quick)
    ratio = slow / quick.mean()
    assert f"took {slow:,.0f} s and SEM's {low:.0f} and {high:.0f}, a ratio of {ratio:.1f}" in text
    assert f"9.3 times the passes, each {ratio / 9.3:.2f} times as long" in text


def test_the_minutes_of_the_comparison_are_those_of_the_report() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    tables = cost_tables(api.load_records(CARD / "cifar10-both"))
    minutes = [table.notes[-1].split()[2] for table in tables]
    assert "of `fast` took {} and those of `paper` {} GPU minutes".format(*minutes) in text


def test_the_differences_between_two_hosts_are_those_of_the_records() -> None:
    cell = ["attack", "rho_a", "seed"]
    one, other = (
        api.load_records(CARD / name).set_index(cell)
        for name in ("cifar10-scale", "cifar10-scale-1")
    )
    gap = (one["test_accuracy"] - other["test_accuracy"]).abs()
    same = one["poison_sha256"] == other["poison_sha256"]
    standard = gap.index.get_level_values("rho_a") == "0"
    assert (one["epoch_accuracy"] == other["epoch_accuracy"])[same & standard].all()
    found = rows("docs/results.md", "Reproduce a cell", "|")[-3:]
    assert [row[2] for row in found] == [
        str(part.sum()) for part in (same & standard, same & ~standard, ~same)
    ]
    for part, row in zip((same & ~standard, ~same), found[1:], strict=True):
        assert row[3] == f"{gap[part].mean():.1f} points on average, at most {gap[part].max():.1f}"
    assert {*one[same].index.unique("attack")} == {"clean", "em"}


def test_the_two_forms_of_em_are_those_of_the_records() -> None:
    kinds = [("none", "0"), ("grayscale", "0"), ("jpeg", "0"), ("none", "4/255")]
    of_version_1 = api.load_records(CARD / "cifar10-fast")  # centred, before that was an option
    later = api.load_records(CARD / "cifar10-calibration")
    forms = {
        "[0, 1]": MEASURED[MEASURED["attack"] == "em"],
        "x - 0.5": pd.concat(
            [
                of_version_1[of_version_1["attack"] == "em"],
                later[later["attack"] == "em[centred=True]"],
            ]
        ),
    }
    form = ""
    for name, seed, *figures in rows("benchmarks/README.md", "NVIDIA H200", "|")[-4:]:
        form = name or form
        mine = forms[form][forms[form]["noise_seed"] == int(seed)]
        of = mine.set_index(["defense", "rho_a"])["test_accuracy"]
        assert figures == [f"{of[kind]:.1f}" if kind in of else "" for kind in kinds]


def test_the_crossing_of_presets_shows_the_records() -> None:
    records = api.load_records(CARD / "cifar10-calibration")
    of = records.set_index(["attack", "preset", "defense", "rho_a"])["test_accuracy"]
    no_smoothing = "fast[training.label_smoothing=0.0]"
    attacks = {
        "SEM, 1,500 steps": "sem[steps=1500]",
        "TAP, surrogate by `paper`": "tap[clean surrogate=paper]",
        "TAP, surrogate by `fast`": "tap[clean surrogate=fast+training.label_smoothing=0]",
        "TAP, surrogate by `fast` with label smoothing 0.1": "tap[clean surrogate=fast]",
    }
    shown = 0
    for noise, *figures in rows("benchmarks/README.md", "`fast` compared with `paper`", "|"):
        if noise in attacks:
            for preset, figure in zip(("fast", no_smoothing, "paper"), figures, strict=True):
                if figure:
                    assert figure == f"{of[attacks[noise], preset, 'none', '0']:.1f}"
                    shown += 1
    assert shown == 7
    text = " ".join((ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").split())
    both = [of["sem[steps=1500]", preset, "none", "4/255"] for preset in ("fast", no_smoothing)]
    assert f"`fast` reaches {both[0]:.1f} % with and {both[1]:.1f} % without" in text
    assert of["em", "fast", "none", "0"] == 17.55
    assert of["em", "fast", "grayscale", "0"] == 90.15


def test_the_picture_of_the_poisons_can_be_drawn_again() -> None:
    folder = CARD / "cifar10-poisons"
    frame = api.load_records(folder)
    names = {label.partition("[")[0] for label in frame["attack"]}
    assert names == {"random", "sc", "em", "tap", "ntga", "rem", "sem"}
    for poison in frame["poison"]:
        strip = read_strip(folder, poison)
        assert strip is not None
        assert len(strip.clean) == 16
        assert not (strip.clean == strip.poisoned).all()
