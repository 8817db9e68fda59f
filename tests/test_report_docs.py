"""What docs/reports.md, docs/plugins.md and benchmarks/README.md say of reports is so."""

import re
import shlex
from pathlib import Path

import pytest
from documents import blocks
from typer.testing import CliRunner

from unlearnable_bench import api
from unlearnable_bench.cli import app
from unlearnable_bench.planning import registry
from unlearnable_bench.results.table import Table, entry_text

ROOT = Path(__file__).parent.parent
SHORT = {
    "shapes.train": "60", "shapes.test": "20", "training.epochs": "1",
    "small-cnn.width": "4", "sem.steps": "2", "sem.noise_steps": "1", "sem.samples": "1",
    "sem.attack_steps": "1",
}  # fmt: skip


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def commands() -> list[str]:
    found = [block.text for block in blocks("docs/reports.md") if not block.language]
    return [line for block in found for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results/shapes-smoke, of few and small cells."""
    folder = tmp_path_factory.mktemp("reports")
    plan = api.make_plan(methods=["sem"], defenses=["none", "grayscale"], settings=SHORT)
    assert not api.run(plan, folder / "results" / "shapes-smoke", device="cpu").failures
    return folder


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_page_works(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    words = shlex.split(command, comments=True)
    if words[1] == "correlate":
        words += [word for pair in SHORT.items() for word in ("--set", "=".join(pair))]
    if words[1] == "detect":
        words += ["--set", "training.epochs=1", "--set", "mlp2.width=8"]
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, result.output
    if "--output" in words:
        written = Path(words[words.index("--output") + 1])
        assert written.is_dir() or written.stat().st_size > 1000
    elif words[1] == "report":
        assert "SEM" in result.output or "Ours" in result.output


def test_the_page_names_every_column_of_the_frame(place: Path) -> None:
    section = text("docs/reports.md").partition("\n## The frame\n")[2].partition("\n## ")[0]
    heads = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    named = [name for head in heads for name in re.findall(r"`(\w+)`", head)]
    frame = api.load_records(place / "results" / "shapes-smoke")
    assert sorted(named) == sorted(frame.columns)


def test_the_example_of_the_frame_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    (example,) = [b.text for b in blocks("docs/reports.md") if b.language == "python"]
    exec(compile(example, "reports.md", "exec"), {})
    assert "sem" in capsys.readouterr().out


def test_the_page_names_every_report() -> None:
    named = set(re.findall(r"^\| `([a-z-]+)` \|", text("docs/reports.md"), re.MULTILINE))
    assert set(registry.reports.names()) - {"csv", "json", "html"} <= named


def test_the_example_of_a_report_is_one(place: Path, tmp_path: Path) -> None:
    (block,) = re.findall(
        r"```python\n(.*?)```", text("docs/plugins.md").split("## A report")[1], re.DOTALL
    )
    plugin = tmp_path / "undefended.py"
    plugin.write_text(block)
    folder = str(place / "results" / "shapes-smoke")
    options = ["--plugin", str(plugin), "--set", "learner=small-cnn[width=4]", "--format", "csv"]
    asked = ["report", folder, "--report", "undefended", *options]
    registered = dict(registry.reports._from_files)
    try:
        result = CliRunner().invoke(app, asked)
    finally:
        registry.reports._from_files.clear()
        registry.reports._from_files.update(registered)
    assert result.exit_code == 0, result.output
    assert "SEM" in result.output


def test_the_correlations_shown_are_those_of_the_records() -> None:
    frame = api.load_records(ROOT / "benchmarks" / "h200" / "cifar10-correlation")
    tables = registry.reports.get("correlation")().render(frame)
    (table, points) = (one for one in tables if isinstance(one, Table))
    assert len(points.rows) == 12
    section = text("benchmarks/README.md").partition("\n## Robustness and protection\n")[2]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    head, _, *shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    columns = [column.heading for column in table.columns]
    kept = [columns.index(heading) for heading in head[1:]]
    for row, texts in zip(table.rows, shown, strict=True):
        pairs = zip(row.entries, table.columns, strict=True)
        found = [entry and entry_text(entry, "", digits=column.digits) for entry, column in pairs]
        assert [row.label, *(found[k] for k in kept)] == texts
