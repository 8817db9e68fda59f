"""The points of the correlation analysis: one a variant of the noise, measured and trained on.

What the SEM paper (Liu et al., AAAI 2024, Figure 3) fixes: robustness of surrogate and noise is
held against protection under adversarial training, on CIFAR-10 with rho_a = 4/255 and
rho_u = 8/255. Its formulas of Definitions 1, 2, 4 and 5 could not be read; the operational forms
below are ours.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.aggregate import order_of
from unlearnable_bench.results.correlation import Correlation, correlate
from unlearnable_bench.results.names import option_text
from unlearnable_bench.results.pivot import cells, finished_mask

# Below so many percentage points lost, a share of the loss is a ratio of noises.
_LEAST_LOSS = 5.0


@dataclass(frozen=True)
class Quantity:
    """One quantity that is held against protection.

    Attributes:
        column: of `variants`.
        name: for tables and axes.
        unit: for axes.
        given: column of the quantity that the partial correlation removes.
        meaning: how it is measured.
    """

    column: str
    name: str
    unit: str
    given: str
    meaning: str


QUANTITIES = (
    Quantity(
        "surrogate_robustness",
        "Robustness of the surrogate",
        "minus loss under PGD",
        "noise_robustness",
        "minus the mean worst-case loss at rho_a of the final surrogate on its poison (Definition "
        "1 as we read it)",
    ),
    Quantity(
        "noise_robustness",
        "Robustness of the noise",
        "minus loss under PGD",
        "surrogate_robustness",
        "minus the mean worst-case loss at rho_a of one reference network on the poison, trained "
        "adversarially on the clean images: the same for every noise (Definition 2 as we read it)",
    ),
    Quantity(
        "delusiveness",
        "Delusiveness",
        "points lost",
        "surrogate_robustness",
        "clean test accuracy that standard training loses (Definition 4 as we read it)",
    ),
    Quantity(
        "stability",
        "Stability",
        "% of the loss left",
        "surrogate_robustness",
        "share of this loss that is left if the stored noise is hit once by U(-rho_a, rho_a) "
        "(Definition 5 as we read it)",
    ),
)


def variants(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row a variant: the four quantities, and protection under adversarial training.

    Columns: `attack` (label), `generator` (radius of the surrogate's adversarial training), `noise`
    (perturbation of the noise phase, with its radius), `steps` (updates of the surrogate), `seeds`,
    `protection` (points of clean test accuracy lost under adversarial training), those of
    `QUANTITIES`, and `keys` of the records. Each is a mean over seeds; what was not measured is
    NaN. Protection and delusiveness are differences to the clean control of the same seed.

    Args:
        frame: from `load_records`, of one data set, learner and preset.

    Raises:
        UserError: no measurement of robustness, several settings, or no clean control.
    """
    found = cells(frame)
    found = found[finished_mask(found)]
    if found["surrogate_loss"].isna().all():
        raise UserError("no robustness was measured here; run `ubench correlate`")
    measured = found[found["surrogate_loss"].notna()]
    settings = measured[["dataset", "learner", "preset"]].drop_duplicates()
    if len(settings) > 1:
        raise UserError(
            "variants of several data sets, learners or presets: choose by --datasets, --learners "
            "or --presets"
        )
    dataset, learner, preset = settings.iloc[0]
    found = found[
        (found["dataset"] == dataset) & (found["learner"] == learner) & (found["preset"] == preset)
    ]
    radii = sorted(set(measured["rho_a"]), key=order_of)
    if len(radii) > 1:
        raise UserError(f"robustness was measured at {', '.join(radii)}: choose one by --rho-a 0,R")
    accuracy = found.set_index(["attack", "defense", "rho_a", "seed"])["test_accuracy"].to_dict()
    hit = next((d for d in found["defense"] if d.partition("[")[0] == "uniform-noise"), "")

    def lost(attack: str, defense: str, rho_a: str, seed: int) -> float:
        cell = (defense, rho_a, seed)
        clean, poisoned = (accuracy.get((name, *cell), math.nan) for name in ("clean", attack))
        return float(clean - poisoned)

    rows = []
    for attack, group in measured.groupby("attack", sort=False):
        name, values = str(attack), []
        for cell in group.to_dict("records"):
            seed = cell["seed"]
            standard = lost(name, "none", "0", seed)
            values.append(
                {
                    "protection": lost(name, "none", radii[0], seed),
                    "surrogate_robustness": -cell["surrogate_loss"],
                    "noise_robustness": -cell["noise_loss"],
                    "delusiveness": standard,
                    "stability": 100 * lost(name, hit, "0", seed) / standard
                    if standard >= _LEAST_LOSS
                    else math.nan,
                }
            )
        keys = tuple(found[found["attack"] == attack]["key"])
        means = {str(name): mean for name, mean in pd.DataFrame(values).mean().items()}
        about = _about(group["setting"].iloc[0])
        rows.append({"attack": name, **about, "seeds": len(values), **means, "keys": keys})
    points = pd.DataFrame(rows)
    if points["protection"].isna().all():
        raise UserError("no clean control at rho_a 0 and above: run `ubench correlate` to its end")
    return points.assign(dataset=dataset, learner=learner, preset=preset, rho_a=radii[0])


def _about(setting: str) -> dict[str, Any]:
    """Return what a variant is, from its options."""
    options = json.loads(setting)["poison"]["attack"]["options"]
    perturbation = str(options.get("perturbation", ""))
    radius = options.get("noise_rho_a") or options.get("rho_a", "0")
    noise = perturbation if perturbation == "none" else f"{perturbation} {option_text(radius)}"
    steps = options.get("stop") or options.get("steps", 0)
    return {"generator": option_text(options.get("rho_a", "0")), "noise": noise, "steps": steps}


def correlations(points: pd.DataFrame) -> dict[str, Correlation]:
    """Return how each quantity goes with protection, by its column.

    Args:
        points: from `variants`.
    """
    names = {quantity.column: quantity.name for quantity in QUANTITIES}
    return {
        quantity.column: correlate(
            points[quantity.column].tolist(),
            points["protection"].tolist(),
            given={names[quantity.given]: points[quantity.given].tolist()},
            names=(quantity.name, "protection"),
        )
        for quantity in QUANTITIES
    }
