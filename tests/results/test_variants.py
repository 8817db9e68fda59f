"""The points of the correlation analysis, from cells made by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_cells import cell, frame, setting
from scipy.stats import pearsonr

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.variants import correlations, variants

MEASURED = ("surrogate_loss", "noise_loss")


def variant(
    name: str, standard: float, hit: float, robust: float, losses: tuple[float, float], **more: Any
) -> list[dict[str, Any]]:
    """A variant's three cells; the adversarial one with what was measured of it."""
    measured = dict(zip(MEASURED, losses, strict=True))
    options = setting(rho_a="1/85", perturbation="uniform", noise_rho_a="4/255", steps=300)
    unknown = dict.fromkeys(MEASURED, np.nan)
    usual = {"setting": options, **unknown, **more}
    return [
        cell(name, standard, **usual),
        cell(name, hit, defense="uniform-noise", **usual),
        cell(name, robust, rho_a="4/255", **usual | measured),
    ]


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
    ],
)
def test_what_cannot_be_related_says_why(cells: list[list[dict[str, Any]]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        points(*cells)
