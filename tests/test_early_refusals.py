"""What depends only on options, shapes, labels and seeds is refused before any work."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from unlearnable_bench import Defense, UserError
from unlearnable_bench.images import Data, ImageSet, Transform
from unlearnable_bench.planning import composition, registry
from unlearnable_bench.planning.correlation import Noise, make_correlation_plan
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.protection import Protection
from unlearnable_bench.planning.registry import Chosen
from unlearnable_bench.radius import Radius


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("random", {"rho_u": [Radius("8/255"), Radius("0.5/255")]}),
        ("sem", {"settings": {"sem.rho_u": "0.5/255"}}),
        ("em", {"settings": {"em.rho_u": "1/256"}}),
        ("sc", {"settings": {"sc.rho_u": "0.99/255"}}),
    ],
)
def test_a_radius_below_one_level_is_refused_in_the_plan(
    method: str, given: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=rf"{method}\.rho_u=\S+ is below 1/255.*use 1/255 or more"):
        make_plan(methods=[method], **given)


def test_one_level_and_none_are_allowed() -> None:
    plan = make_plan(methods=["random"], rho_u=[Radius("0"), Radius("1/255")], clean=False)
    assert len(plan.cells) == 2


def test_a_set_too_small_for_a_method_is_refused_in_the_plan() -> None:
    """A fifth of 20 images has 4, too few for 10 classes."""
    few = {"shapes.train": "20", "em.variant": "classwise"}
    with pytest.raises(UserError, match=r"here 4 of 20 images, and needs one of each of 10 class"):
        make_plan(methods=["em"], settings=few)


def test_a_tangent_kernel_that_is_not_trained_is_refused_in_the_plan() -> None:
    with pytest.raises(UserError, match=r"ntga\.t=0: without training"):
        make_plan(methods=["ntga"], settings={"ntga.t": "0"})


def data(count: int) -> Data:
    labels = np.arange(count) % 2
    images = ImageSet(np.zeros((count, 8, 8, 3), np.uint8), labels, 2)
    return Data("grey", images, images, ("a", "b"), Transform(1, flip=True))


def test_a_defense_that_holds_out_every_image_is_refused() -> None:
    early = registry.defenses.choose("early-stopping", {"share": 0.9})
    whole = Protection()
    composition.refuse_shares([early], data(6), [whole])  # holds out round(5.4) = 5
    with pytest.raises(UserError, match=r"90 % of 4 training images.*none is left"):
        composition.refuse_shares([early], data(4), [whole])  # round(3.6) = 4
    rest = Protection(0.9, complement_only=True)  # trains on 1 of 10
    with pytest.raises(UserError, match=r"of 1 training images"):
        composition.refuse_shares([early], data(10), [whole, rest])


def test_a_share_that_is_none_is_refused_with_the_name_of_the_defense() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd(Defense):
        """Holds out too much."""

        def validation_share(self) -> float:
            return 1.5

    with pytest.raises(UserError, match=r"defense 'odd' holds out a share of 1\.5"):
        composition.refuse_shares([Chosen("odd", {}, Odd())], data(6), [Protection()])


@pytest.mark.parametrize("section", ["training", "adversarial"])
def test_a_number_of_pgd_steps_that_no_defense_reads_is_refused(section: str) -> None:
    given: dict[str, Any] = {
        "methods": ["random"], "rho_a": [Radius("4/255")], "settings": {f"{section}.pgd_steps": 3}
    }  # fmt: skip
    with pytest.raises(UserError, match=rf"{section}\.pgd_steps has no effect.*single step"):
        make_plan(defenses=["fgsm", "jpeg+fgsm"], **given)
    assert make_plan(defenses=["fgsm", "none"], **given).cells


def test_a_schedule_of_surrogates_is_refused_where_none_is_trained_on_clean_images() -> None:
    with pytest.raises(UserError, match=r"surrogate\.epochs has no effect in this plan: no method"):
        make_plan(methods=["sem"], settings={"surrogate.epochs": 2})
    with pytest.raises(UserError, match=r"surrogate\.pgd_steps has no effect: the surrogates of"):
        make_plan(methods=["tap"], settings={"surrogate.pgd_steps": 2}, rho_a=[Radius("4/255")])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jpeg+jpeg", "jpeg is given twice; give it once"),
        ("cutout+jpeg+cutout", "cutout is given twice"),
        ("none+jpeg", "none adds nothing; write jpeg, or none,jpeg"),
    ],
)
def test_a_composition_with_a_part_twice_or_with_none_is_refused(name: str, words: str) -> None:
    with pytest.raises(UserError, match=rf"--defenses {re.escape(name)}: {words}"):
        make_plan(methods=["random"], defenses=[name])


@pytest.mark.parametrize("stop", [0, 50, 60])
def test_a_stop_after_the_last_update_is_refused_in_the_words_of_stops(stop: int) -> None:
    with pytest.raises(
        UserError, match=rf"--stops {stop}: sem makes 50 updates \(sem\.steps\); .* 1 to 49"
    ):
        make_correlation_plan(
            surrogate_rho_a=[Radius("0")],
            noises=[Noise("none")],
            rho_a=Radius("4/255"),
            stops=[10, stop],
            settings={"sem.steps": "50"},
        )
