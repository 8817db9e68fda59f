"""The points of the correlation analysis, from cells made by hand."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_cells import cell, frame, setting
from scipy.stats import pearsonr

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.variants import correlations, seeds_note, variants

MEASURED = ("surrogate_loss", "noise_loss")
OPTIONS = setting(rho_a="1/85", perturbation="uniform", noise_rho_a="4/255", steps=300)


def variant(
    name: str, standard: float, hit: float, robust: float, losses: tuple[float, float], **more: Any
) -> list[dict[str, Any]]:
    """A variant's three cells; the adversarial one with what was measured of it."""
    measured = dict(zip(MEASURED, losses, strict=True))
    unknown = dict.fromkeys(MEASURED, np.nan)
    usual = {"setting": OPTIONS, "reference": "r", **unknown, **more}
    return [
        cell(name, standard, **usual),
        under_noise(name, hit, "4/255", **usual),
        cell(name, robust, rho_a="4/255", **usual | measured),
    ]


def under_noise(name: str, hit: float, radius: str, **more: Any) -> dict[str, Any]:
    """A variant's cell with the defense that adds uniform noise, whose default is 4/255."""
    defense = {"name": "uniform-noise", "options": {"radius": radius}}
    whole = json.dumps(json.loads(more.pop("setting")) | {"defense": defense})
    label = "uniform-noise" + (f"[radius={radius}]" if radius != "4/255" else "")
    return cell(name, hit, defense=label, **more, setting=whole)


def clean(**more: Any) -> list[dict[str, Any]]:
    return variant("clean", 90.0, 88.0, 80.0, (np.nan, np.nan), **more)


def points(*cells: list[dict[str, Any]]) -> pd.DataFrame:
    return variants(frame(*(one for of_variant in cells for one in of_variant)))


def test_quantities_are_differences_to_the_clean_control() -> None:
    (found,) = points(clean(), variant("sem", 20.0, 53.0, 50.0, (1.5, 0.25))).to_dict("records")
    assert found["protection"] == 80 - 50
    assert found["delusiveness"] == 90 - 20
    assert found["stability"] == pytest.approx(100 * (88 - 53) / (90 - 20))  # half is left
    assert (found["surrogate_robustness"], found["noise_robustness"]) == (-1.5, -0.25)
    assert (found["generator"], found["noise"], found["steps"]) == ("3/255", "uniform 4/255", 300)
    assert found["keys"] == ("k3", "k4", "k5")


def test_a_share_of_next_to_nothing_is_not_computed() -> None:
    (found,) = points(clean(), variant("sem", 87.0, 86.0, 50.0, (1, 1))).to_dict("records")
    assert np.isnan(found["stability"])
    assert found["delusiveness"] == 3


def test_a_variant_is_one_point_whatever_its_seeds() -> None:
    cells = [
        part
        for seed, robust in enumerate((50.0, 60.0))
        for part in (clean(seed=seed), variant("sem", 20.0, 20.0, robust, (2.0, 1.0), seed=seed))
    ]
    (found,) = points(*cells).to_dict("records")
    assert (found["protection"], found["seeds"]) == (25, 2)
    assert seeds_note(points(*cells)) == "Mean over 2 seeds."


def test_partly_poisoned_images_are_no_part_of_a_variant() -> None:
    half = variant("sem", 90.0, 88.0, 80.0, (1.5, 0.25), protect=0.5)
    (found,) = points(clean(), variant("sem", 20.0, 53.0, 50.0, (1.5, 0.25)), half).to_dict(
        "records"
    )
    assert (found["protection"], found["delusiveness"]) == (80 - 50, 90 - 20)
    assert found["keys"] == ("k3", "k4", "k5")


def test_another_budget_that_was_not_measured_is_no_part_of_a_variant() -> None:
    other = variant("sem", 80.0, 80.0, 75.0, (np.nan, np.nan), rho_u="4/255")
    (found,) = points(clean(), variant("sem", 20.0, 53.0, 50.0, (1.5, 0.25)), other).to_dict(
        "records"
    )
    assert (found["protection"], found["delusiveness"]) == (80 - 50, 90 - 20)


def test_stability_is_measured_with_noise_of_rho_a() -> None:
    parts = clean(), variant("sem", 20.0, 53.0, 50.0, (1.5, 0.25))
    stronger = [under_noise("clean", 80.0, "8/255", setting=OPTIONS)]
    stronger += [under_noise("sem", 75.0, "8/255", setting=OPTIONS)]
    (found,) = points(stronger, *parts).to_dict("records")
    assert found["stability"] == pytest.approx(100 * (88 - 53) / (90 - 20))
    without = [[one for one in part if "defense" not in one] for part in parts]
    (found,) = points(stronger, *without).to_dict("records")
    assert np.isnan(found["stability"])


def test_correlations_are_those_of_the_points() -> None:
    numbers = [(20.0, 50.0, 1.0, 3.0), (30.0, 40.0, 0.5, 1.0), (25.0, 70.0, 2.0, 2.0)]
    numbers += [(50.0, 65.0, 2.5, 1.5), (40.0, 55.0, 1.2, 2.5)]
    cells = [
        variant(f"sem[lr={k}]", standard, standard, robust, losses)
        for k, (standard, robust, *losses) in enumerate(numbers)
    ]
    found = correlations(points(clean(), *cells))  # type: ignore[arg-type]
    protection = [80 - robust for _, robust, *_ in numbers]
    for place, column in ((2, "surrogate_robustness"), (3, "noise_robustness")):
        robustness = [-each[place] for each in numbers]
        assert found[column].pearson == pytest.approx(pearsonr(robustness, protection)[0])
    assert found["delusiveness"].n == 5


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([clean()], "no robustness was measured"),
        ([variant("sem", 20, 20, 50, (1, 1))], "no clean control"),
        (
            [clean(), *(variant("sem", 20, 20, 50, (1, 1), preset=p) for p in ("a", "b"))],
            "several data sets, learners or presets",
        ),
        (
            [clean(), *(variant("sem", 20, 20, 50, (1, 1), rho_u=r) for r in ("8/255", "4/255"))],
            "radius 4/255, 8/255; select one by --rho-u 0,R",
        ),
        (
            [clean(), *(variant(r, 20, 20, 50, (1, 1), reference=r) for r in ("sem", "rem"))],
            "several reference networks",
        ),
    ],
)
def test_what_cannot_be_related_says_why(cells: list[list[dict[str, Any]]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        points(*cells)
