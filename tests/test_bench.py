"""`ubench bench` on a small scale."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from unlearnable_bench import bench, console
from unlearnable_bench.bench import Scale, grow, measure
from unlearnable_bench.cli import app
from unlearnable_bench.harness import Harness
from unlearnable_bench.learners.small_cnn import SmallCNN

CPU = torch.device("cpu")
TINY = Scale(
    learner="small-cnn",
    gradient_batches=(8,),
    batch=8,
    attacks={"sem": {"noise_steps": 2, "samples": 3, "attack_steps": 2}, "em": {"noise_steps": 2}},
    packed=(2,),
    growth={
        "sem.samples": (1, 2),
        "training.pgd_steps": (1,),
        "image size": (16,),
        "small-cnn.width": (4,),
        "images": (80,),
    },
    repeats=2,
)


def test_measures_every_job_beside_the_eager_path() -> None:
    told: list[str] = []
    ceiling, lines = measure(CPU, TINY, told.append)
    assert [(line.job, line.cells) for line in lines] == [
        ("input gradient", 1),
        ("standard training", 1),
        ("standard training", 2),
        ("training, PGD-10", 1),
        ("training, PGD-10", 2),
        ("sem step", 1),
        ("em step", 1),
    ]
    assert len(told) == 1 + 5 + len(lines)
    passes = [1, 1.5, 1.5, 11.5, 11.5, 2 * 3 + 2 + 1, 2 + 1]
    for line, per_image in zip(lines, passes, strict=True):
        assert line.milliseconds > 0
        assert line.images_per_second == pytest.approx(
            line.batch * per_image * 1e3 / line.milliseconds
        )
        assert line.share == pytest.approx(line.tflops / ceiling)
        assert 0.02 < line.eager_ratio < 50
        assert line.warmup_seconds == 0
        assert 50 < line.peak_memory_mib < 20_000


def test_cost_is_shown_for_each_value_of_each_parameter() -> None:
    told: list[str] = []
    rows = grow(CPU, TINY, told.append)
    assert [(row.parameter, row.value, row.job) for row in rows] == [
        ("sem.samples", 1, "sem step"),
        ("sem.samples", 2, "sem step"),
        ("training.pgd_steps", 1, "training, PGD-1"),
        ("image size", 16, "input gradient"),
        ("small-cnn.width", 4, "input gradient"),
        ("images", 80, "standard training"),
    ]
    assert len(told) == len(rows)
    assert all(row.milliseconds > 0 for row in rows)
    *others, images = rows
    assert [row.seconds_per_epoch for row in others] == [None] * len(others)
    assert images.seconds_per_epoch == pytest.approx(80 // 8 * images.milliseconds / 1e3)


@pytest.mark.parametrize(
    ("parameter", "value", "shape"),
    [("image size", 24, (8, 3, 24, 24)), ("sem.samples", 5, (5 * 8, 3, 32, 32))],
)
def test_the_value_is_what_the_network_sees(
    monkeypatch: pytest.MonkeyPatch, parameter: str, value: int, shape: tuple[int, ...]
) -> None:
    seen = set()
    build = SmallCNN.build

    def spied(learner: SmallCNN, classes: int, size: int) -> nn.Module:
        network = build(learner, classes, size)
        assert isinstance(network, nn.Sequential)
        network[0].register_forward_pre_hook(lambda _, x: seen.add(tuple(x[0].shape)))
        return network

    monkeypatch.setattr(SmallCNN, "build", spied)
    ((_, _, job),) = bench._growing(bench.replace(TINY, growth={parameter: (value,)}))
    job.drive(Harness(CPU, 0, "fp32", bench._TRANSFORM, job.learner), 1)
    assert shape in seen


def job(drive: Callable[[Harness, int], None]) -> Any:
    return bench._Job("sleep", SmallCNN(), 1, 1, drive)


def test_packed_cells_start_together_and_the_last_one_counts() -> None:
    """Warm-up, and what follows the timed steps, are nobody's time."""
    lazy = iter([(0.1, 0.01), (0.0, 0.05)])

    def drive(harness: Harness, steps: int) -> None:
        warm, timed = next(lazy)
        for step in harness.loop("steps", steps):
            last = step + 1 == steps
            time.sleep(0.2 if last else timed if step >= bench._Stopwatch.WARM else warm)
        for _ in harness.loop("more", 20):
            pass

    timing = bench._time(job(drive), CPU, repeats=4, cells=2)
    assert 4 * 0.05 * 1e3 <= timing.milliseconds * 4 * 2 < 1.5 * 4 * 0.05 * 1e3


def test_a_packed_cell_that_fails_ends_the_others() -> None:
    turn = iter(range(3))

    def drive(harness: Harness, steps: int) -> None:
        broken = next(turn) == 1
        for step in harness.loop("steps", steps):
            if broken and step == 6:
                raise ValueError("no such luck")

    with pytest.raises(ValueError, match="no such luck"):
        bench._time(job(drive), CPU, repeats=4, cells=3)
    assert threading.active_count() == 1


def test_packed_cells_have_networks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    network = Harness.network

    def spied(harness: Harness, *args: Any) -> nn.Module:
        built.append((threading.get_ident(), network(harness, *args)))
        return built[-1][1]

    monkeypatch.setattr(Harness, "network", spied)
    learner = SmallCNN(width=4)
    training = bench._training_job(learner, 4, bench.Radius("1/255"), pgd_steps=1)
    bench._time(training, CPU, repeats=2, cells=2)
    assert len({thread for thread, _ in built} - {threading.get_ident()}) == 2
    assert len({id(found) for _, found in built}) == 2


@pytest.mark.parametrize(("kind", "called"), [(bench._Eager, 1), (Harness, 0)])
def test_batchnorm_is_folded_on_the_fast_path_only(kind: type[Harness], called: int) -> None:
    harness = kind(CPU, 0, "fp32", bench._TRANSFORM, SmallCNN(width=4))
    model = harness.network(bench._images(2)).eval()
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    calls: list[None] = []
    norm.register_forward_hook(lambda *_: calls.append(None))
    x = torch.rand(2, 3, 32, 32)
    model(x)
    assert len(calls) == called


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    small = bench.replace(TINY, attacks={}, growth={"image size": (8, 16)})
    monkeypatch.setattr(console, "LAPTOP", small)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("flags", [(), ("--growth",)])
def test_the_command_prints_a_table_or_one_object(flags: tuple[str, ...]) -> None:
    table = CliRunner().invoke(app, ["bench", "--device", "cpu", *flags])
    assert table.exit_code == 0
    assert "small-cnn, 32 px" in table.stdout
    assert table.stdout.count("input gradient") == (2 if flags else 1)
    whole = json.loads(CliRunner().invoke(app, ["bench", "--device=cpu", "--json", *flags]).stdout)
    assert {"device", "driver", "packages", "cuda", "git"} <= set(whole["environment"])
    assert whole["scale"]["learner"] == "small-cnn"
    rows = whole["growth" if flags else "measurements"]
    assert {"job", "batch", "milliseconds", "peak_memory_mib"} <= set(rows[0])
    if flags:
        assert [row["value"] for row in rows] == [8, 16]
    else:
        assert whole["ceiling_tflops"] > 0
        assert [row["cells"] for row in rows] == [1, 1, 2, 1, 2]
