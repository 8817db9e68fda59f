"""Loading and reporting thousands of records: `pytest -m benchmark tests/benchmarks`."""

import json
from pathlib import Path

import pandas as pd
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from unlearnable_bench.identity import key_of
from unlearnable_bench.results.frame import load_records
from unlearnable_bench.results.rendering import render

RECORDS = Path(__file__).parents[2] / "benchmarks" / "h200" / "cifar10-fast"
SEEDS = 100  # of 30 cells

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a results folder with every cell of the benchmark under many seeds."""
    made = tmp_path_factory.mktemp("many")
    (made / "cells").mkdir()
    (made / "ubench.json").write_bytes((RECORDS / "ubench.json").read_bytes())
    for path in (RECORDS / "cells").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        accuracy = record["test_accuracy"]
        for seed in range(SEEDS):
            record["seed"] = record["identity"]["poison"]["seed"] = seed
            record["key"] = key_of(record["identity"])
            record["test_accuracy"] = min(accuracy + seed % 7 / 10, 100)
            text = json.dumps(record)
            (made / "cells" / f"{record['key']}.json").write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    return load_records(folder)


def test_loading(benchmark: BenchmarkFixture, folder: Path) -> None:
    frame = benchmark.pedantic(load_records, (folder,), rounds=3)
    assert len(frame) == 30 * SEEDS


@pytest.mark.parametrize("report", ["main", "defenses", "time", "paired", "csv"])
def test_report(benchmark: BenchmarkFixture, frame: pd.DataFrame, report: str) -> None:
    assert benchmark.pedantic(render, (frame, report), rounds=3)
