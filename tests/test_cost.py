"""What a plan costs before it runs, counted by hand and compared with measured runs."""

import json
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
import torch
from helpers import small_data

from unlearnable_bench.contract import Attack, Dataset, Learner
from unlearnable_bench.errors import UserError
from unlearnable_bench.images import Data, ImageSet
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.card import Card
from unlearnable_bench.planning.cost import Portion, work_of
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.poison import Poison
from unlearnable_bench.radius import Radius
from unlearnable_bench.running import trial
from unlearnable_bench.schedule import Training
from unlearnable_bench.screen.forecast import by_passes, on_card

H200 = Path(__file__).parent.parent / "benchmarks" / "h200"
CPU = torch.device("cpu")


class Twelve(Dataset):
    """Twelve training and six test images."""

    def load(self) -> Data:
        return small_data()


class Unknown(Attack):
    """An attack that does not report its passes."""

    surrogate: ClassVar[Literal["none"]] = "none"

    def generate(self, images: ImageSet, harness: Any) -> Poison:
        raise UserError("it needs more images")


class Thousand(Dataset):
    """1024 training images."""

    def load(self) -> Data:
        return small_data(train=1024)


def plan(*methods: str | type[Attack], **more: Any) -> Plan:
    settings = {"training.epochs": 5, "training.batch_size": 4} | more.pop("settings", {})
    return make_plan(
        **{"dataset": Twelve, "preset": "smoke", "clean": False}
        | more
        | {"methods": methods, "settings": settings}
    )


def passes(works: list[Portion]) -> dict[str, float | None]:
    return {f"{work.kind} {work.name}": work.passes for work in works}


def test_a_poison_counts_once_and_each_cell_by_itself() -> None:
    settings = {"sem.steps": 3, "sem.batch_size": 4, "sem.noise_steps": 2, "sem.samples": 2}
    settings |= {"sem.attack_steps": 1, "adversarial.pgd_steps": 2}
    asked = plan("sem", rho_a=[Radius("0"), Radius("4/255")], settings=settings)
    noise, standard, robust = work_of(asked)
    # 3 steps of 4 images x (2 x 2 for the noise + 2 for the surrogate), then 4 for each image.
    assert (noise.kind, noise.passes) == ("noise", 3 * 4 * (4 + 2) + 12 * 4)
    # 5 epochs of 3 batches of 4; PGD-2 makes it 3 passes. Tests: 5 x 6 images, then the 12.
    assert (standard.passes, standard.steps, standard.tests) == (5 * 12, 15, 42)
    assert (robust.passes, robust.pgd_steps) == (3 * 5 * 12, 2)


def test_the_surrogate_that_is_trained_on_clean_images_is_counted_once() -> None:
    works = work_of(plan("tap", settings={"tap.steps": 2, "tap.restarts": 1}, seeds=[0, 1]))
    kinds = [work.kind for work in works]
    assert kinds == ["noise"] * 2 + ["clean network"] * 2 + ["training"] * 2
    # Its schedule is the preset's: 12 epochs.
    assert passes(works)["clean network small-cnn"] == 12 * 12


def test_what_is_finished_or_stored_is_not_counted() -> None:
    asked = plan("tap", rho_a=[Radius("0"), Radius("4/255")])
    poison = asked.cells[0].poison
    left = work_of(asked, asked.cells[1:], {poison.clean_network_key}.__contains__)
    assert [work.kind for work in left] == ["noise", "training"]
    assert [work.kind for work in work_of(asked, asked.cells[1:], lambda _: True)] == ["training"]


def test_attacks_without_passes_are_tried_or_named() -> None:
    works = work_of(plan("tue", Unknown))
    tried = by_passes(works, CPU, "CPU", 0.0, trial=True)
    assert tried.uncounted == ("noise of unknown",)
    assert tried.seconds["noise"] > 0
    untried = by_passes(works, CPU, "CPU", 0.0, trial=False)
    assert untried.uncounted == ("noise of unknown",)
    nothing = on_card([work for work in works if work.passes is None], CARD, "bench.json", 1)
    assert nothing.as_json()["total_hours"] is None
    assert str(nothing).startswith(
        f"none for {CARD.name}: bench.json has no measurement of noise of"
    )
    on_gpu = on_card(works, CARD, "bench.json", 1)
    assert on_gpu.uncounted[:2] == ("noise of tue", "noise of unknown")
    assert on_gpu.seconds == {}


def test_the_time_of_a_trial_grows_with_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    # 64 images in 2 s and 192 in 4 s: a second for each 64 after the first ones.
    stamps = iter([0, 9, 10, 12, 20, 24])
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: next(stamps)))
    (cell,) = plan("random", dataset=Thousand).cells
    assert trial.trial_seconds(cell.poison, CPU) == 2 + (1024 - 64) / 64


CARD = Card(
    name="NVIDIA T",
    learner="resnet18",
    precision="bf16",
    gradients=((128, 1.0), (256, 1.5)),
    # Milliseconds, batch size, passes per second; by job and number of cells.
    steps={
        ("standard training", 1): (2.0, 128, 0.0),
        ("standard training", 2): (1.5, 128, 0.0),
        ("training, PGD-10", 1): (12.0, 128, 0.0),
        ("sem step", 1): (50.0, 128, 200_000.0),
    },
    warmup={"standard training": 3.0, "sem step": 7.0},
)
RESNET = registry.learners.choose("resnet18")
SEM: Any = SimpleNamespace(attack=registry.attacks.choose("sem"))
TAP: Any = SimpleNamespace(attack=registry.attacks.choose("tap"))
VGG = registry.learners.choose("vgg16-bn")


def trained(batch: int, steps: int, pgd_steps: int = 0, tests: int = 0, **changed: Any) -> Portion:
    work = Portion(
        "training", "resnet18", RESNET, 32, "bf16", batch, 1.0, steps, pgd_steps, tests, packs=True
    )
    return replace(work, **changed)


def operations(learner: Learner, size: int) -> float:
    return size * (10.0 if learner == RESNET.plugin else 30.0)


@pytest.mark.parametrize(
    ("work", "pack", "seconds"),
    [
        # Steps at the measured batch size, and 3 s of warm-up.
        (trained(128, 1000), 1, 2 + 3),
        (trained(128, 1000), 2, 1.5 + 3),
        (trained(128, 1000), 3, 1.5 + 3),  # not measured: two cells are
        # A gradient of 192 images takes 1.25 ms, of 512 twice that of 256, of 64 half that of 128.
        (trained(192, 1000), 1, 2 * 1.25 + 3),
        (trained(512, 1000), 1, 2 * 3 + 3),
        (trained(64, 1000), 1, 2 * 0.75 + 3),
        # A PGD step takes (12 - 2) / 10 ms.
        (trained(128, 1000, pgd_steps=4), 1, 2 + 4 + 3),
        # A test image takes a pass at the largest batch: 1.5 ms for 256.
        (trained(128, 1000, tests=25_600), 1, 2 + 0.15 + 3),
        # A clean network is never packed.
        (trained(128, 1000, packs=False), 2, 2 + 3),
        # Three times the operations for the network, twice for images of 64 px.
        (trained(128, 1000, learner=VGG), 1, 3 * 2 + 3),
        (trained(128, 1000, learner=VGG, size=64), 1, 6 * 2 + 3),
        # Noise by the rate of its own job, or by that of gradients.
        (Portion("noise", "sem", RESNET, 32, "bf16", 128, 1e6, poison=SEM), 1, 5 + 7),
        (Portion("noise", "tap", RESNET, 32, "bf16", 256, 256e3, poison=TAP), 1, 1.5),
        (Portion("noise", "clean", None, 32, "bf16", 128, 0.0), 1, 0),
        (trained(128, 1000, precision="fp32"), 1, None),
        (Portion("noise", "mine", RESNET, 32, "bf16", 128, None), 1, None),
    ],
)
def test_the_time_on_a_card_is_that_of_its_measured_steps(
    work: Portion, pack: int, seconds: float | None
) -> None:
    assert CARD.seconds(work, pack, operations) == (seconds and pytest.approx(seconds))


def test_the_estimate_of_an_h200_is_within_a_quarter_of_what_it_took() -> None:
    card = Card.read(H200 / "bench.json")
    spent: dict[str, list[float]] = {}
    expected: dict[str, float] = {}
    # Other folders were filled by several processes on one card.
    for path in sorted(H200.glob("cifar10-[fp]a*/cells/*.json")):
        record = json.loads(path.read_text())
        if (record["learner"], record["defense"]) != ("resnet18", "none"):
            continue
        name, poison = record["attack"], record["poison"]
        if name in ("sem", "rem") and poison["seconds"] > 100:
            attack = registry.attacks.choose(name)
            passes = attack.plugin.image_passes(50_000)
            made: Any = SimpleNamespace(attack=attack)
            noise = Portion("noise", name, RESNET, 32, "bf16", 128, passes, poison=made)
            spent.setdefault(name, []).append(poison["seconds"])
            expected[name] = card.seconds(noise, 2, operations) or 0
        if record["preset"] not in ("fast", "paper"):
            continue
        schedule = Training(**record["identity"]["training"])
        robust = record["rho_a"] != "0"
        kind = f"{record['preset']}, rho_a {record['rho_a']}, {record['packed']} cells"
        seconds = record["seconds"]["training"] + record["seconds"]["evaluation"]
        spent.setdefault(kind, []).append(seconds / record["packed"])
        tests = schedule.total_epochs(50_000) * 10_000 + 50_000
        pgd_steps = schedule.pgd_steps if robust else 0
        cell = trained(schedule.batch_size, schedule.total(50_000), pgd_steps, tests)
        whole = card.seconds(cell, record["packed"], operations) or 0
        expected[kind] = whole - card.warmup["standard training"]
    assert len(expected) >= 2 + 6
    for kind, seconds in expected.items():
        # Some cells of a pair shared the card with one of another kind.
        assert seconds == pytest.approx(statistics.median(spent[kind]), rel=0.25), kind


@pytest.mark.parametrize("text", ["", "[]", '{"measurements": []}', '{"measurements": 3}'])
def test_another_file_is_no_bench(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a table of ubench bench; make it with: ubench"):
        Card.read(path)
    with pytest.raises(UserError, match="No such file"):
        Card.read(tmp_path / "nope.json")


def test_an_interrupted_bench_is_refused(tmp_path: Path) -> None:
    sheet = json.loads((H200 / "bench.json").read_text())
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(sheet | {"measurements": sheet["measurements"][:3]}))
    with pytest.raises(UserError, match="lacks measurements"):
        Card.read(path)
