"""Defenses joined by `+`."""

import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from helpers import make_harness, random_images

from unlearnable_bench import Radius, Random, UserError
from unlearnable_bench.contract import Defense
from unlearnable_bench.planning.composition import compose
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.registry import Chosen, defenses
from unlearnable_bench.running.training import train
from unlearnable_bench.schedule import Training


def composed(name: str, **settings: Mapping[str, str]) -> Chosen[Defense]:
    return compose(name, settings)


def test_a_single_name_is_the_defense_itself() -> None:
    assert composed("jpeg", jpeg={"quality": "50"}) == defenses.choose("jpeg", {"quality": "50"})


def test_the_label_names_every_part_with_its_options() -> None:
    chosen = composed("jpeg+cutout", jpeg={"quality": "50"})
    assert chosen.label == "jpeg[quality=50]+cutout"


def test_the_identity_holds_the_parts_in_order() -> None:
    parts = [defenses.choose(name).identity() for name in ("cutout", "jpeg")]
    assert composed("cutout+jpeg").identity()["options"] == {"parts": parts}
    changed = composed("cutout+jpeg", jpeg={"quality": "50"})
    assert changed.identity() != composed("cutout+jpeg").identity()
    assert composed("jpeg+cutout").identity() != composed("cutout+jpeg").identity()


def test_images_are_prepared_in_order() -> None:
    images, harness = random_images(size=16), make_harness()
    jpeg, gray = (defenses.choose(name).plugin for name in ("jpeg", "grayscale"))
    prepared = composed("grayscale+jpeg").plugin.prepare(images, harness).images
    expected = jpeg.prepare(gray.prepare(images, harness), harness).images
    assert (prepared == expected).all()
    assert (prepared != gray.prepare(jpeg.prepare(images, harness), harness).images).any()


def test_batches_are_augmented_in_order() -> None:
    model, x, y = torch.nn.Identity(), torch.rand(6, 3, 16, 16), torch.eye(6)
    cutout, mixup = (defenses.choose(name).plugin for name in ("cutout", "mixup"))
    got = composed("cutout+mixup").plugin.augment(model, x, y, Random(0, "a"))
    random = Random(0, "a")
    expected = mixup.augment(model, *cutout.augment(model, x, y, random), random)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


@pytest.mark.parametrize("name", ["trades+cutout", "cutout+trades"])
def test_perturbation_and_loss_are_those_of_the_part_that_has_them(name: str) -> None:
    images = random_images(count=12, size=16)
    schedule = Training(batch_size=6, steps=3, pgd_steps=2)

    def weights(defense: Defense) -> dict[str, Any]:
        outcome = train(images, images, defense, Radius("8/255"), schedule, make_harness())
        return outcome.model.state_dict()

    class Both(type(defenses.choose("trades").plugin)):  # type: ignore[misc]
        augment = type(defenses.choose("cutout").plugin).augment
        size = 16

    got, expected = weights(composed(name).plugin), weights(Both())
    plain = weights(composed("none+cutout").plugin)
    assert all(torch.equal(got[key], expected[key]) for key in got)
    assert any(not torch.equal(got[key], plain[key]) for key in got)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [("trades+mart", "inner maximisation|loss"), ("fgsm+pgd-l2", "inner maximisation")],
)
def test_two_of_what_there_is_one_of_are_refused(name: str, meaning: str) -> None:
    first, second = name.split("+")
    with pytest.raises(UserError, match=f"{first} and {second} each define their own ({meaning})"):
        composed(name)


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(UserError, match=r"unknown defense 'jpg'.*jpeg"):
        composed("cutout+jpg")


def test_early_stopping_combines_with_the_others() -> None:
    chosen = composed("cutout+early-stopping", **{"early-stopping": {"share": "0.1"}})
    assert chosen.plugin.validation_share() == 0.1
    assert composed("cutout+jpeg").plugin.validation_share() == 0


def test_cells_at_0_of_what_acts_only_in_adversarial_training_are_left_out() -> None:
    settings = {"shapes.train": "20", "shapes.test": "10"}
    defenses = ["none", "jpeg", "trades", "jpeg+mart"]
    radii = [Radius("0"), Radius("4/255")]
    plan = make_plan(methods=["clean"], rho_a=radii, defenses=defenses, settings=settings)
    cells = {(cell.defense.name, str(cell.rho_a)) for cell in plan.cells}
    assert cells == {*product(["none", "jpeg"], ["0", "4/255"])} | {
        ("trades", "4/255"), ("jpeg+mart", "4/255")
    }  # fmt: skip
    assert plan.remarks == (
        "trades, jpeg+mart: no cells at rho_a 0, where it would be standard training",
    )
    only = make_plan(methods=["clean"], rho_a=radii[1:], defenses=defenses, settings=settings)
    assert (len(only.cells), only.remarks) == (4, ())


@pytest.mark.parametrize("name", ["fgsm", "trades", "mart", "pgd-l2", "cutout+fgsm"])
def test_adversarial_training_without_a_radius_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"--defenses {re.escape(name)}.*add --rho-a 4/255"):
        make_plan(methods=["clean"], defenses=["none", name])


def test_every_defense_that_replaces_the_inner_maximisation_says_when_it_acts() -> None:
    for name in defenses.names():
        cls = defenses.get(name)
        assert cls.adversarial_only == (cls.perturb is not Defense.perturb or name == "mart")
