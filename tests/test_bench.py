"""`ubench bench` on a small scale."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from typer.testing import CliRunner

from unlearnable_bench.cli import app
from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness
from unlearnable_bench.learners.small_cnn import SmallCNN
from unlearnable_bench.timing import bench, growth, printing
from unlearnable_bench.timing.bench import measure
from unlearnable_bench.timing.scales import Scale

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
    large_batch=4,
    large_size=48,
    set_images=20,
    set_size=16,
)


def test_measures_every_job_beside_the_eager_path(monkeypatch: pytest.MonkeyPatch) -> None:
    time_eager, eager, told = bench._time_eager, [], []

    def spied(*args: Any) -> float:
        eager.append(time_eager(*args))
        return eager[-1]

    monkeypatch.setattr(bench, "_time_eager", spied)
    ceiling = bench.convolution_ceiling(CPU)
    lines = list(measure(CPU, TINY, ceiling, told.append))
    assert [(line.job, line.cells) for line in lines] == [
        ("input gradient", 1),
        ("standard training", 1),
        ("standard training", 2),
        ("training, PGD-10", 1),
        ("training, PGD-10", 2),
        ("sem step", 1),
        ("em step", 1),
        ("sem step, 48 px", 1),
    ]
    assert len(told) == 6 + len(lines)
    # Multiply-adds of small-cnn: three convolutions and the last layer.
    adds = 7 * [9 * (3 * 16 * 16**2 + 16 * 32 * 16**2 + 32 * 64 * 8**2) + 64 * 10]
    adds += [9 * (3 * 16 * 24**2 + 16 * 32 * 24**2 + 32 * 64 * 12**2) + 64 * 10]
    passes = [1, 1.5, 1.5, 11.5, 11.5, 2 * 3 + 2 + 1, 2 + 1, 2 * 3 + 2 + 1]
    eagers = [eager[k] for k in (0, 1, 1, 2, 2, 3, 4, 5)]
    for line, per_image, alone, per_pass in zip(lines, passes, eagers, adds, strict=True):
        assert line.milliseconds > 0
        assert line.images_per_second == pytest.approx(
            line.batch * per_image * 1e3 / line.milliseconds
        )
        assert line.share == pytest.approx(line.tflops / ceiling)
        assert line.tflops == pytest.approx(2 * 2 * per_pass * line.images_per_second / 1e12)
        assert line.eager_ratio == pytest.approx(alone / line.milliseconds)
        # Nothing compiles; of two cells, one may wait for the weights of the other.
        assert line.warmup_seconds == 0 or (line.cells > 1 and line.warmup_seconds < 1)
        assert 50 < line.peak_memory_mib < 20_000


def test_cost_is_shown_for_each_value_of_each_parameter() -> None:
    told: list[str] = []
    rows = list(growth.grow(CPU, TINY, told.append))
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


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, ...]]:
    """The shapes of the batches that small CNNs get."""
    shapes: set[tuple[int, ...]] = set()
    build = SmallCNN.build

    def spied(learner: SmallCNN, classes: int, size: int) -> nn.Module:
        network = build(learner, classes, size)
        assert isinstance(network, nn.Sequential)
        network[0].register_forward_pre_hook(lambda _, x: shapes.add(tuple(x[0].shape)))
        return network

    monkeypatch.setattr(SmallCNN, "build", spied)
    return shapes


@pytest.mark.parametrize(
    ("parameter", "value", "shape"),
    [("image size", 24, (8, 3, 24, 24)), ("sem.samples", 5, (5 * 8, 3, 32, 32))],
)
def test_the_value_is_what_the_network_sees(
    seen: set[tuple[int, ...]], parameter: str, value: int, shape: tuple[int, ...]
) -> None:
    ((_, _, job),) = growth._growing(bench.replace(TINY, growth={parameter: (value,)}))
    job.drive(Harness(CPU, 0, "fp32", bench._TRANSFORM, job.learner), 1)
    assert shape in seen


def test_large_images_are_what_the_network_sees_in_fewer_steps(
    seen: set[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, large = bench.jobs(TINY)
    assert (large.name, large.batch, large.size) == ("sem step, 48 px", 4, 48)
    seen.clear()  # what counting the passes has shown
    large.drive(Harness(CPU, 0, "fp32", bench._TRANSFORM, large.learner), 1)
    assert {shape[2:] for shape in seen} == {(48, 48)}
    assert (3 * 4, 3, 48, 48) in seen  # three EOT samples of four images
    asked = []

    def timed(job: bench.Job, _device: torch.device, repeats: int, _cells: int = 1) -> bench.Timing:
        asked.append((job.name, repeats))
        return bench.Timing(1, 0, 1)

    monkeypatch.setattr(bench, "time_job", timed)
    monkeypatch.setattr(bench, "_time_eager", lambda *_: 1)
    list(measure(CPU, bench.replace(TINY, repeats=30), 1))
    assert asked[-2:] == [("em step", 30), ("sem step, 48 px", 5)]


def test_the_value_is_what_is_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(bench, "train", lambda *args: seen.append(args))
    values = {"training.pgd_steps": (3,), "images": (80,), "small-cnn.width": (4,)}
    pgd, images, width = growth._growing(bench.replace(TINY, growth=values))
    for _, _, found in (pgd, images):
        found.drive(Harness(CPU, 0, "fp32", bench._TRANSFORM, found.learner), 7)
    ((_, _, _, radius, schedule, _), (_, _, _, none, plain, _)) = seen
    assert (radius, schedule.pgd_steps, schedule.steps) == (bench.Radius("4/255"), 3, 7)
    assert (none, plain.batch_size, plain.steps) == (bench.Radius("0"), 8, 7)
    assert width[2].learner == SmallCNN(width=4)


def test_an_epoch_is_timed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but its warm-up, and its last step, in which training evaluates."""
    steps: list[int] = []

    def drive(harness: Harness, count: int) -> None:
        steps.append(count)
        for _ in harness.loop("steps", count):
            time.sleep(0.001)

    monkeypatch.setattr(growth, "training_job", lambda *_: job(drive))
    (row,) = growth.grow(CPU, bench.replace(TINY, growth={"images": (60,)}))
    assert steps == [60]
    assert row.seconds_per_epoch == pytest.approx(60 * row.milliseconds / 1e3)


def job(drive: Callable[[Harness, int], None]) -> Any:
    return bench.Job("sleep", SmallCNN(), 1, 1, drive)


@pytest.mark.parametrize("cells", [[(0.3, 0.03), (0.0, 0.15)], [(0.3, 0.15), (0.0, 0.03)]])
def test_packed_cells_start_together_and_the_last_one_counts(
    cells: list[tuple[float, float]],
) -> None:
    """Warm-up, and what follows the timed steps, are nobody's time."""
    lazy = iter(cells)

    def drive(harness: Harness, steps: int) -> None:
        warm, timed = next(lazy)
        for step in harness.loop("steps", steps):
            last = step + 1 == steps
            time.sleep(0.6 if last else timed if step >= bench.WARM_STEPS else warm)
        for _ in harness.loop("more", 20):
            pass

    timing = bench.time_job(job(drive), CPU, repeats=4, cells=2)
    assert 4 * 0.15 * 1e3 <= timing.milliseconds * 4 * 2 < 1.5 * 4 * 0.15 * 1e3


def test_a_packed_cell_that_fails_ends_the_others() -> None:
    turn = iter(range(3))

    def drive(harness: Harness, steps: int) -> None:
        broken = next(turn) == 1
        for step in harness.loop("steps", steps):
            if broken and step == 6:
                raise ValueError("no such luck")

    before = threading.active_count()  # other tests may have left some, such as a browser's
    with pytest.raises(ValueError, match="no such luck"):
        bench.time_job(job(drive), CPU, repeats=4, cells=3)
    assert threading.active_count() == before


def test_packed_cells_have_networks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    network = Harness.network

    def spied(harness: Harness, *args: Any) -> nn.Module:
        model = network(harness, *args)
        built.append((threading.get_ident(), harness, model))
        return model

    monkeypatch.setattr(Harness, "network", spied)
    learner = SmallCNN(width=4)
    training = bench.training_job(learner, 4, bench.Radius("1/255"), pgd_steps=1)
    bench.time_job(training, CPU, repeats=2, cells=2)
    threads, harnesses, models = zip(*built, strict=True)
    assert len({*threads} - {threading.get_ident()}) == 2
    assert len({*map(id, harnesses)}) == len({*map(id, models)}) == 2


def test_the_eager_path_is_plain_pytorch() -> None:
    """Not a slow stand-in: as built, in PyTorch's own layout, batches whole."""
    models, seen = [], []

    def drive(harness: Harness, steps: int) -> None:
        model = harness.network(bench._images(2))
        model.network.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        bench.input_gradient(model, torch.rand(2, 3, 32, 32), torch.tensor([0, 1]))
        models.append(model)
        for _ in harness.loop("steps", steps):
            pass

    bench._time_eager(job(drive), CPU, 1)
    (model,) = models
    (x,) = seen
    assert not model.split_batches
    assert all(tensor.is_contiguous() for tensor in (x, *model.parameters()))
    kinds = {type(layer) for layer in model.network.modules()}
    assert {nn.BatchNorm2d, nn.AdaptiveAvgPool2d} <= kinds


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    small = bench.replace(TINY, attacks={}, growth={"image size": (8, 16)})
    monkeypatch.setattr(printing, "CPU_SCALE", small)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("flags", [(), ("--growth",)])
def test_the_command_prints_a_table_or_one_object(flags: tuple[str, ...]) -> None:
    table = CliRunner().invoke(app, ["bench", "--device", "cpu", *flags])
    assert table.exit_code == 0
    assert "small-cnn, 32 px" in table.stdout
    assert "None" not in table.stdout.partition("small-cnn")[0]  # a CPU has no driver
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


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("flags", [(), ("--growth",)])
def test_what_is_measured_before_ctrl_c_is_printed(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    time_job, calls = bench.time_job, []

    def interrupted(*args: Any) -> bench.Timing:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return time_job(*args)

    for module in (bench, growth):
        monkeypatch.setattr(module, "time_job", interrupted)
    result = CliRunner().invoke(app, ["bench", "--device=cpu", "--json", *flags])
    assert result.exit_code == 130
    assert "the remaining jobs were not measured" in result.stderr
    (row,) = json.loads(result.stdout)["growth" if flags else "measurements"]
    assert row["milliseconds"] > 0


@pytest.fixture(scope="module")
def grown() -> list[growth.Growth]:
    values = {"image size": (8, 16), "images": (80,)}
    return list(growth.grow(CPU, bench.replace(TINY, growth=values)))


@pytest.mark.parametrize("ending", growth.FORMATS)
def test_the_figure_is_saved(tmp_path: Path, grown: list[growth.Growth], ending: str) -> None:
    file = tmp_path / f"growth.{ending}"
    growth.draw(grown, "a machine", file)
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    assert file.read_bytes().startswith(start[ending])


def test_the_figure_shows_what_was_measured(tmp_path: Path) -> None:
    def row(parameter: str, value: int, milliseconds: float, epoch: float | None) -> growth.Growth:
        return growth.Growth(parameter, value, "a job, more", 8, milliseconds, epoch, 1.0)

    figure: list[Figure] = []
    rows = [row("image size", 16, 2, None), row("image size", 32, 4.5, None)]
    rows += [row("images", 800, 3, 0.3), row("images", 1600, 3, 0.6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, *_, **__: figure.append(self))
        growth.draw(rows, "a machine", tmp_path / "f.png")
    sizes, images = figure[0].axes
    assert [(a.get_xlabel(), a.get_ylabel()) for a in (sizes, images)] == [
        ("image size (px)", "ms per step"),
        ("images", "s per epoch"),
    ]
    assert sizes.lines[1].get_xydata().tolist() == [[16, 2], [32, 4.5]]
    assert images.lines[1].get_xydata().tolist() == [[800, 0.3], [1600, 0.6]]
    assert sizes.lines[0].get_xydata().tolist() == [[16, 2.25], [32, 4.5]]
    assert {a.get_xscale() for a in (sizes, images)} == {"log"}
    assert {a.get_yscale() for a in (sizes, images)} == {"log"}


@pytest.mark.usefixtures("tiny")
def test_a_figure_that_cannot_be_saved_costs_no_measurement(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(printing, "draw", full)
    result = CliRunner().invoke(
        app, ["bench", "--device=cpu", "--growth", f"--figure={tmp_path / 'a.png'}"]
    )
    assert isinstance(result.exception, OSError)
    assert "input gradient" in result.output


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--figure=a.png"], "add --growth"),
        (["--growth", "--figure=a.txt"], ".png, .pdf or .svg"),
        (["--growth", "--figure=none/a.png"], "no folder"),
        (["--growth", "--figure=taken.png"], "taken.png is a folder"),
    ],
)
def test_a_figure_that_cannot_be_is_refused_before_anything_is_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.png").mkdir()
    for module, name in ((printing, "grow"), (printing, "measure")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("timed"))
    error = CliRunner().invoke(app, ["bench", "--device=cpu", *flags]).exception
    assert isinstance(error, UserError)
    assert told in str(error)


def test_a_job_runs_under_pytest_benchmark(tmp_path: Path) -> None:
    sheet, folder = tmp_path / "sheet.json", Path(__file__).parent
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
        *("-m", "benchmark", "-k", "gradient and 32", f"--benchmark-json={sheet}", "benchmarks"),
    ]
    mine = {"CUDA_VISIBLE_DEVICES": "", "PYTEST_ADDOPTS": ""}
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | mine
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(sheet.read_text())["benchmarks"]
    assert found["stats"]["rounds"] == 3
    assert 1e-4 < found["stats"]["min"] <= found["stats"]["mean"] < 1
    assert found["extra_info"]["environment"]["device"].startswith("CPU")
