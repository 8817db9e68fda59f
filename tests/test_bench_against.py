"""`ubench bench --against FILE`, and the work on a whole set that surrounds the steps."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from unlearnable_bench.cli import app
from unlearnable_bench.errors import UserError
from unlearnable_bench.storage.disk import DiskError
from unlearnable_bench.timing import printing, whole_set
from unlearnable_bench.timing.against import Ratio, Sheet, compare
from unlearnable_bench.timing.bench import Measurement
from unlearnable_bench.timing.scales import CPU_SCALE
from unlearnable_bench.timing.whole_set import SetMeasurement, measure_set

CPU = torch.device("cpu")
H200 = Path(__file__).parents[1] / "benchmarks" / "h200"
TINY = replace(CPU_SCALE, set_images=6, set_size=8)


def step(job: str, milliseconds: float, memory: float, cells: int = 1) -> dict[str, Any]:
    row = {"job": job, "batch": 128, "cells": cells, "milliseconds": milliseconds}
    return row | {"peak_memory_mib": memory}


def work(job: str, seconds: float, memory: float | None, images: int = 2600) -> dict[str, Any]:
    row = {"job": job, "images": images, "size": 256, "seconds": seconds}
    return row | {"host_memory_mib": memory}


def sheet(*steps: dict[str, Any], works: tuple[dict[str, Any], ...] = (), **more: Any) -> Sheet:
    environment = {"device": "a card", "driver": None, "cuda": "13.0", "packages": {"torch": "2"}}
    scale = {"learner": "resnet18", "batch": 128, "growth": {}, "packed": [2]}
    found = {"environment": environment, "scale": scale, "measurements": steps}
    return Sheet.of(found | ({"whole_set": works} if works else {}) | more)


def test_each_job_of_both_has_its_ratio_of_time_and_memory() -> None:
    here = sheet(
        step("sem step", 30, 900), step("standard training", 3, 500, cells=2), step("new", 1, 1)
    )
    there = sheet(
        step("sem step", 40, 600), step("standard training", 2, 400), step("old", 1, 1, cells=3)
    )
    found = compare(here, there)
    assert found.ratios == [Ratio("sem step, batch 128", 0.75, 1.5)]
    assert found.only_here == ["standard training, batch 128, 2 cells", "new, batch 128"]
    assert found.only_there == ["standard training, batch 128", "old, batch 128, 3 cells"]
    assert found.differences == []


def test_work_on_a_whole_set_is_compared_for_equal_sets() -> None:
    here = sheet(works=(work("hashing", 1, 0.2), work("adding", 2, 600), work("drawing", 3, None)))
    there = sheet(
        works=(work("hashing", 4, 0.1), work("adding", 2, 500, images=26), work("drawing", 2, 50))
    )
    found = compare(here, there)
    # Memory below 1 MiB, or that one of the systems does not report, has no ratio.
    assert found.ratios == [
        Ratio("hashing, 2,600 images of 256 px", 0.25, None),
        Ratio("drawing, 2,600 images of 256 px", 1.5, None),
    ]
    assert found.only_here == ["adding, 2,600 images of 256 px"]
    assert found.only_there == ["adding, 26 images of 256 px"]


def test_another_card_precision_or_scale_is_named() -> None:
    environment = {"device": "CPU", "driver": None, "cuda": None, "packages": {}}
    # What only this one has, and lists of jobs, whose jobs are named, are no difference.
    scale = {"learner": "resnet18", "batch": 64, "packed": [3], "repeats": 3}
    here, there = sheet(), sheet(environment=environment, scale=scale, without=["fold", "relu"])
    assert compare(here, there).differences == [
        "device is a card here and CPU there",
        "precision is bf16 here and fp32 there",
        "left out is nothing here and fold, relu there",
        "scale.batch is 128 here and 64 there",
    ]


def test_an_output_of_an_earlier_version_is_read() -> None:
    found = Sheet.read(H200 / "bench.json")
    assert found.machine.startswith("NVIDIA H200, driver 580.159.04, unlearnable-bench 0.1.0, ")
    assert found.settings["precision"] == "bf16"
    assert found.costs["sem step, batch 128"].seconds == pytest.approx(0.04958, abs=1e-5)
    packed = found.costs["training, PGD-10, batch 128, 2 cells"]
    assert packed.seconds == pytest.approx(0.01023, abs=1e-5)
    assert packed.memory_mib == pytest.approx(1851, abs=1)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return the command with two steps and one work on a set, of given times and memory."""

    def measured(*_: object) -> Iterator[Measurement]:
        yield Measurement("sem step", 32, 1, 20.0, 1, 1, 1, 1, 1, 300.0)
        yield Measurement("em step", 32, 2, 9.0, 1, 1, 1, 1, 1, 300.0)

    def measured_set(*_: object) -> Iterator[SetMeasurement]:
        yield SetMeasurement("hashing", 260, 256, 0.5, 100, 40.0, None)

    monkeypatch.setattr(printing, "measure", measured)
    monkeypatch.setattr(printing, "measure_set", measured_set)
    monkeypatch.setattr(printing, "convolution_ceiling", lambda _: 1.0)

    def command(*flags: object) -> Result:
        return CliRunner().invoke(app, ["bench", "--device=cpu", *map(str, flags)])

    return command


@pytest.fixture
def earlier(timed: Callable[..., Result], tmp_path: Path) -> Path:
    """Return an output of the command, whose times and memory are then changed."""
    found = json.loads(timed("--json").stdout)
    sem, em = found["measurements"]
    sem |= {"milliseconds": 40.0, "peak_memory_mib": 240.0}
    em["cells"] = 3
    found["whole_set"][0] |= {"seconds": 0.4, "host_memory_mib": 160.0}
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(found))
    return path


def test_the_command_prints_ratios_and_names_jobs_of_one_run(
    timed: Callable[..., Result], earlier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = timed("--against", earlier).stdout
    table = text.partition(f"this run / {earlier}")[2]
    rows = [" ".join(line.split()) for line in table.splitlines()]
    assert "sem step, batch 32 0.500 1.25" in rows
    assert "hashing, 260 images of 256 px 1.250 0.25" in rows
    assert "only in this run: em step, batch 32, 2 cells" in table
    assert f"only in {earlier}: em step, batch 32, 3 cells" in table
    assert caplog.messages == []
    found = json.loads(timed("--json", "--against", earlier).stdout)["against"]
    assert found == {
        "file": str(earlier),
        "ratios": [
            {"job": "sem step, batch 32", "time": 0.5, "memory": 1.25},
            {"job": "hashing, 260 images of 256 px", "time": 1.25, "memory": 0.25},
        ],
        "only_here": ["em step, batch 32, 2 cells"],
        "only_there": ["em step, batch 32, 3 cells"],
        "differences": [],
    }


def test_runs_without_a_job_of_both_have_no_table_of_ratios(timed: Callable[..., Result]) -> None:
    path = H200 / "bench.json"
    table = timed("--against", path).stdout.partition(f"this run / {path}")[2]
    assert "no job is in both" in table
    assert "only in this run: sem step, batch 32; em step, batch 32, 2 cells; hashing" in table
    assert f"only in {path}: input gradient, batch 128; " in table


def test_the_command_warns_of_another_machine_before_it_times(
    timed: Callable[..., Result],
    earlier: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = json.loads(earlier.read_text())
    found["environment"]["device"], found["scale"]["repeats"] = "another", 99
    earlier.write_text(json.dumps(found))
    seen: list[str] = []
    monkeypatch.setattr(printing, "convolution_ceiling", lambda _: seen.extend(caplog.messages))
    monkeypatch.setattr(printing, "_print_measurements", lambda *_: None)
    with caplog.at_level(logging.WARNING):
        timed("--against", earlier)
    device, repeats = seen
    assert device.endswith("here and another there, so ratios are not of the code alone")
    assert "scale.repeats is 12 here and 99 there" in repeats
    assert str(earlier) in device


ROW = step("sem step", 1, 1)
SOUND = {
    "environment": {"device": "a card", "driver": None, "cuda": None, "packages": {}},
    "scale": {},
    "measurements": [ROW],
}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        ("folder", "it is a folder"),
        ("", "is not the output of ubench bench --json"),
        ("[]", "is not the output"),
        ("[" * 100_000, "is not the output"),
        (json.dumps(SOUND | {"measurements": [ROW | {"milliseconds": 0}]}), "is not the output"),
        (json.dumps(SOUND | {"measurements": [{"job": "sem step"}]}), "is not the output"),
        (json.dumps(SOUND | {"environment": {"device": "a card"}}), "is not the output"),
        ((H200 / "growth.json").read_text(), "is not the output"),
    ],
)
def test_a_file_that_is_no_such_output_is_refused_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, told: str
) -> None:
    for name in ("measure", "measure_set", "convolution_ceiling"):
        monkeypatch.setattr(printing, name, lambda *_: pytest.fail("timed"))
    path = tmp_path / "bench.json"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    flags = ["bench", "--device=cpu", f"--against={path}"]
    error = CliRunner().invoke(app, flags).exception
    assert isinstance(error, UserError)
    assert str(error).startswith(f"--against {path}")
    assert told in str(error)
    assert str(error).endswith("make it with: ubench bench --json > bench.json")
    assert "\n" not in str(error)


def test_steps_are_not_compared_with_growth(tmp_path: Path) -> None:
    flags = ["bench", "--growth", f"--against={tmp_path / 'bench.json'}"]
    error = CliRunner().invoke(app, flags).exception
    assert isinstance(error, UserError)
    assert "--against compares steps, not --growth" in str(error)


def test_every_work_on_a_set_is_timed_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_set.tempfile, "tempdir", str(tmp_path))
    told: list[str] = []
    rows = list(measure_set(CPU, TINY, told.append))
    assert [row.job for row in rows] == [
        "drawing noise",
        "adding noise",
        "checking the budget",
        "measuring image quality",
        "hashing",
        "saving a poison",
        "reading a poison",
    ]
    assert told == [f"{row.job}, 6 images of 8 px" for row in rows]
    for row in rows:
        assert row.mb_per_second == pytest.approx(6 * 8 * 8 * 3 / row.seconds / 1e6)
        assert row.gpu_memory_mib is None
    assert list(tmp_path.iterdir()) == []


def test_the_median_of_three_calls_counts_after_a_first_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stamps = iter([0.0, 5.0, 10.0, 11.0, 20.0, 23.0])
    monkeypatch.setattr(whole_set.time, "perf_counter", lambda: next(stamps))
    calls: list[None] = []
    row = whole_set._measured(
        "a job", lambda: calls.append(None), whole_set._random_images(1000, 10), CPU
    )
    assert (row.seconds, row.mb_per_second) == (3.0, 1000 * 10 * 10 * 3 / 3.0 / 1e6)
    assert len(calls) == 4


def test_the_peak_is_beyond_what_the_process_held_before() -> None:
    if whole_set._restart_peak() is None:
        pytest.skip("the system does not restart the peak of a process")
    held = np.ones(64 << 20, np.uint8)
    images = whole_set._random_images(1, 8)
    row = whole_set._measured("a job", lambda: np.ones(96 << 20, np.uint8), images, CPU)
    assert row.host_memory_mib == pytest.approx(96, abs=8)
    assert held.all()


def test_a_system_without_such_a_peak_reports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refused)
    images = whole_set._random_images(1, 8)
    assert whole_set._measured("a job", lambda: None, images, CPU).host_memory_mib is None


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [(DiskError("the disk is full"), 0, "the disk is full"), (KeyboardInterrupt(), 130, "")],
)
def test_steps_are_printed_if_work_on_a_set_ends_early(
    timed: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    code: int,
    told: str,
) -> None:
    def ended(*_: object) -> Iterator[SetMeasurement]:
        yield SetMeasurement("hashing", 260, 256, 0.5, 100, None, None)
        raise error

    monkeypatch.setattr(printing, "measure_set", ended)
    result = timed("--json")
    assert result.exit_code == code
    found = json.loads(result.stdout)
    assert [row["job"] for row in found["measurements"]] == ["sem step", "em step"]
    assert [row["job"] for row in found["whole_set"]] == ["hashing"]
    assert told in caplog.text
    assert "the remaining jobs were not measured" in caplog.text + result.stderr
