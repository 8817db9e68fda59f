"""The correlation analysis: its plan, its measurements against a literal loop, its whole run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Tiny, make_harness, random_images
from msgspec.structs import replace
from torch.nn import functional
from typer.testing import CliRunner

from unlearnable_bench import UserError, api
from unlearnable_bench.cli import app
from unlearnable_bench.harness import Random
from unlearnable_bench.harness.progress import Silent
from unlearnable_bench.identity import key_of
from unlearnable_bench.planning.correlation import Noise, make_correlation_plan
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan, Probe
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.frame import load_records
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS, Robustness
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running import worker
from unlearnable_bench.running.company import Company
from unlearnable_bench.running.robustness import under_attack
from unlearnable_bench.stop import Stop

SHORT = {
    "shapes.train": "60", "shapes.test": "20", "training.epochs": "1", "adversarial.epochs": "1",
    "small-cnn.width": "4", "sem.steps": "4", "sem.noise_steps": "1", "sem.samples": "1",
    "sem.attack_steps": "1",
}  # fmt: skip
R4 = Radius("4/255")


def plan(**changed: Any) -> Plan:
    asked: dict[str, Any] = {
        "surrogate_rho_a": [Radius("0"), R4],
        "noises": [Noise("none"), Noise("uniform")],
        "rho_a": R4,
        "settings": SHORT,
    }
    return make_correlation_plan(**asked | changed)


def test_a_plan_trains_each_variant_three_times_and_measures_it_once() -> None:
    found = plan()
    kinds = [(cell.attack_label, cell.defense.name, str(cell.rho_a)) for cell in found.cells]
    assert len(kinds) == len(set(kinds)) == 3 * 5  # four variants and clean
    assert {kind[1:] for kind in kinds} == {
        ("none", "0"),
        ("uniform-noise", "0"),
        ("none", "4/255"),
    }
    variants = {cell.poison.key for cell in found.cells if cell.poison.attack.name == "sem"}
    assert [probe.rho_a for probe in found.probes] == [R4] * 4
    assert {probe.poison.key for probe in found.probes} == variants
    assert len({probe.reference_key for probe in found.probes}) == 1


def test_a_noise_without_a_radius_has_that_of_the_evaluation() -> None:
    found = plan(noises=[Noise.parse("uniform"), Noise.parse("pgd:2/255"), Noise.parse("none")])
    options = [probe.poison.attack.plugin.option_values() for probe in found.probes]
    seen = {(o["perturbation"], str(o["noise_rho_a"]), str(o["rho_a"])) for o in options}
    radii = {"uniform": "4/255", "pgd": "2/255", "none": "None"}
    assert seen == {(kind, radii[kind], rho_a) for kind in radii for rho_a in ("0", "4/255")}


def test_stops_of_one_generator_are_variants() -> None:
    found = plan(surrogate_rho_a=[R4], noises=[Noise("uniform")], stops=[3, 1])
    stops = [probe.poison.attack.plugin.option_values()["stop"] for probe in found.probes]
    assert stops == [1, 3, None]
    assert len({probe.poison.trajectory_key for probe in found.probes}) == 1


def test_seeds_share_the_reference_network() -> None:
    found = plan(seeds=[0, 1])
    assert len(found.probes) == 8
    assert len({probe.reference_key for probe in found.probes}) == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rho_a": Radius("0")}, "--rho-a must be above 0"),
        ({"method": "em"}, "unknown method to correlate 'em'"),
        ({"settings": {"sem.rho_a": "1/255"}}, "--set sem.rho_a: `ubench correlate` sets"),
        ({"surrogate_rho_a": [R4], "noises": [Noise("none")]}, "give several"),
    ],
)
def test_what_is_no_family_of_noises_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(**changed)


@pytest.mark.parametrize("text", ["nope", "none:2/255", "pgd:x", ""])
def test_a_noise_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        Noise.parse(text)


def test_loss_and_accuracy_under_attack_are_those_of_a_literal_loop() -> None:
    """PGD image by image and step by step, in float64."""
    images, harness = random_images(7), make_harness(learner=Tiny())
    model = harness.network(images).eval()
    cell = make_plan(methods=["sem"], settings=SHORT, rho_a=[R4]).cells[-1]
    probe = Probe(cell.poison, "sem", Radius("8/255"), cell.training, steps=3)
    found = under_attack(model, images, probe, harness)

    pixels = torch.tensor(images.images).permute(0, 3, 1, 2).double() / 255
    labels, radius = torch.tensor(images.labels), 8 / 255
    start = Random(0, "robustness").uniform(*pixels.shape, low=-radius, high=radius)
    losses, right = [], 0
    for k in range(len(images)):
        x, y = pixels[k : k + 1], labels[k : k + 1]
        at = (x + start[k : k + 1]).clamp(x - radius, x + radius).clamp(0, 1)
        for _ in range(3):
            at = at.detach().requires_grad_()
            gradient = torch.autograd.grad(functional.cross_entropy(model(at), y), at)[0]
            at = at + 2 * radius / 3 * gradient.sign()
            at = at.clamp(x - radius, x + radius).clamp(0, 1)
        logits = model(at.detach())
        losses.append(functional.cross_entropy(logits, y).item())
        right += int(logits.argmax(1) == y)
    assert found == pytest.approx((np.mean(losses), 100 * right / len(images)), abs=1e-9)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the whole run of `plan()`."""
    folder, done = tmp_path_factory.mktemp("correlate"), []
    summary = api.run(plan(), folder, device="cpu", on_cell=lambda *pair: done.append(pair))
    assert (summary.computed, summary.failures) == (19, ())
    assert sum(isinstance(result, Robustness) for _, result in done) == 4
    return folder


def test_a_run_measures_each_variant_once_and_relates_it_to_protection(measured: Path) -> None:
    assert api.run(plan(), measured, device="cpu").computed == 0
    found = {one.poison: one for one in MEASURED_ROBUSTNESS.all(measured)}
    frame = load_records(measured)
    for row in frame.to_dict("records"):
        at_radius = row["rho_a"] == "4/255" and row["attack"] != "clean"
        expected = found[row["poison"]].surrogate_loss if at_radius else None
        if expected is None:
            assert np.isnan(row["surrogate_loss"])
        else:
            assert row["surrogate_loss"] == expected
    assert len({one.noise_loss for one in found.values()}) == 4  # one network, four noises
    text = str(api.render(frame, "correlation", "csv"))
    assert "Robustness of the surrogate" in text
    figure = api.render(frame, "correlation-scatter", "png")
    assert isinstance(figure, bytes)
    assert figure.startswith(b"\x89PNG")


def test_a_measurement_belongs_to_the_cells_with_its_reference_network(
    measured: Path, tmp_path: Path
) -> None:
    """Cells of several presets share a poison; each preset has a reference network of its own."""
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    one = MEASURED_ROBUSTNESS.all(tmp_path)[0]
    identity = one.identity | {"reference": "0" * 32}
    other = replace(
        one, identity=identity, key=key_of(identity), noise_loss=9.0, created="2099-01-01"
    )
    MEASURED_ROBUSTNESS.write(tmp_path, other)
    before, after = load_records(measured), load_records(tmp_path)
    assert after["noise_loss"].equals(before["noise_loss"])
    assert {*after["reference"]} == {"", one.identity["reference"]}


def test_a_method_that_keeps_no_surrogate_fails_in_one_line(tmp_path: Path) -> None:
    settings = {k: v for k, v in SHORT.items() if "sem" not in k}
    base = make_plan(methods=["sc"], settings=settings, rho_a=[R4])
    cell = base.cells[-1]
    probe = Probe(cell.poison, "sc", R4, cell.training)
    asked = Plan(base.data, base.preset_label, (), (probe,))
    (failure,) = api.run(asked, tmp_path, device="cpu").failures
    assert "keeps no surrogate" in failure.reason


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"noise_loss": ', '"noise_loss": "x", "extra": '),
        lambda text: text[:-20],
        lambda text: text.replace('"steps": 10', '"steps": 11'),
    ],
)
def test_a_damaged_measurement_is_left_out(
    measured: Path,
    tmp_path: Path,
    damage: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    path = min((tmp_path / "robustness").glob("*.json"))
    path.write_text(damage(path.read_text()))
    count = len(MEASURED_ROBUSTNESS.all(measured))
    assert len(MEASURED_ROBUSTNESS.all(tmp_path)) == count - 1
    assert not load_records(tmp_path).empty
    assert f"{path} is damaged" in caplog.text


def test_a_damaged_measurement_and_surrogate_are_made_again(
    measured: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    shutil.copytree(measured, out)
    before = MEASURED_ROBUSTNESS.all(out)
    path, network = (
        out / "robustness" / f"{before[0].key}.json",
        out / "networks" / f"{before[0].poison}.safetensors",
    )
    for file in (path, network):
        content = bytearray(file.read_bytes())
        content[-7] ^= 4
        file.write_bytes(content)
    summary = api.run(plan(), out, device="cpu")
    assert (summary.computed, summary.failures) == (1, ())
    again = {one.key: one for one in MEASURED_ROBUSTNESS.all(out)}[before[0].key]
    assert again.surrogate_loss == before[0].surrogate_loss
    assert again.noise_loss == before[0].noise_loss
    for file in (path, network):
        assert f"{file} is damaged" in caplog.text
        assert (file.parent / "damaged" / file.name).exists()


def test_the_command_prints_its_plan(tmp_path: Path) -> None:
    settings = [word for pair in SHORT.items() for word in ("--set", "=".join(pair))]
    command = [
        "correlate",
        "--noise",
        "none,pgd:2/255",
        "--surrogate-rho-a",
        "0,4/255",
        "--dry-run",
    ]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "x"), *settings])
    assert result.exit_code == 0, result.output
    assert "cells     15 and 4 measurements of robustness" in result.output
    assert not (tmp_path / "x").exists()


def test_a_measurement_counts_among_packed_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company, together = Company(), []
    made = worker.Worker(
        ResultsFolder(tmp_path / "out", create=True),
        torch.device("cpu"),
        Silent(),
        Stop(),
        company=company,
    )
    monkeypatch.setattr(worker.Worker, "poison", lambda *_: (None, {}))
    monkeypatch.setattr(worker, "set_damaged_aside", lambda *_: False)

    def measured(*_work: Any) -> None:
        with company.joined() as cell:
            together.append(cell.most)

    monkeypatch.setattr(worker, "measure", measured)
    made.measure(plan().probes[0])
    assert together == [2]
