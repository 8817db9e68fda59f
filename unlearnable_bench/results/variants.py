"""The points of the correlation analysis: one per variant of the noise.

Figure 3 of the SEM paper (Liu et al., AAAI 2024, https://arxiv.org/abs/2311.13091) plots robustness
of surrogate and noise against protection under adversarial training, on CIFAR-10 with
rho_a = 4/255 and rho_u = 8/255. We had no access to the formulas of its Definitions 1, 2, 4 and 5;
the operational forms below are ours.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unlearnable_bench.errors import UserError
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.aggregate import finished_mask, mean, order_of
from unlearnable_bench.results.correlation import Correlation, correlate
from unlearnable_bench.results.names import is_numbered, option_text
from unlearnable_bench.results.pivot import cells
from unlearnable_bench.results.replicates import (
    Pair,
    independent,
    replicates,
    seed_pairs,
    seeds_text,
)

# Percentage points; a share of a smaller loss would be dominated by noise.
_LEAST_LOSS = 5.0


@dataclass(frozen=True)
class Quantity:
    """One quantity that is correlated with protection.

    Attributes:
        column: column of `variants`.
        name: name in tables and on axes.
        unit: unit on axes.
        given: column of the quantity that the partial correlation controls for.
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
        "loss of clean test accuracy under standard training (Definition 4 as we read it)",
    ),
    Quantity(
        "stability",
        "Stability",
        "% of the loss left",
        "surrogate_robustness",
        "share of this loss that remains after adding U(-rho_a, rho_a) once to the images "
        "(Definition 5 as we read it)",
    ),
)


def variants(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per variant: the four quantities, and protection under adversarial training.

    Columns: `attack` (label), `generator` (radius of the surrogate's adversarial training), `noise`
    (perturbation of the views when the noise is optimised, with its radius), `steps` (updates of
    the surrogate), `seeds`, `protection` (points of clean test accuracy lost under adversarial
    training), those of `QUANTITIES`, and `keys` of the records. Each is a mean over seeds
    (`results/replicates.py`), NaN if not measured. Protection and delusiveness are differences to
    the clean control of the same seed.

    Cells of partly poisoned images are left out.

    Args:
        frame: from `load_records`, of one data set, learner, preset, radius of the noise and
            reference network.

    Raises:
        UserError: no measurement of robustness, several settings, or no clean control.
    """
    found = cells(frame)
    found = found[finished_mask(found) & (found["protect"] == 1)]
    if found["surrogate_loss"].isna().all():
        raise UserError("no robustness was measured; run `ubench correlate`")
    setting = _setting(found[found["surrogate_loss"].notna()])
    for name in ("dataset", "learner", "preset"):
        found = found[found[name] == setting[name]]
    found = found[(found["rho_u"] == setting["rho_u"]) | (found["attack"] == "clean")]
    rho_a = setting["rho_a"]
    hit = _uniform_noise(found, Radius(rho_a))
    found = found[found["defense"].isin(["none", hit]) & found["rho_a"].isin(["0", rho_a])]
    measured = found[found["surrogate_loss"].notna()]
    # Clean images have no seed of the noise: learners of one seed are compared.
    pairs = seed_pairs(found)
    clean = (found["attack"] == "clean").tolist()
    seeds = [
        seed if is_clean else (noise, seed)
        for is_clean, (noise, seed) in zip(clean, pairs, strict=True)
    ]
    columns = (found[name].tolist() for name in ("attack", "defense", "rho_a"))
    accuracy = dict(zip(zip(*columns, seeds, strict=True), found["test_accuracy"], strict=True))

    def lost(attack: str, defense: str, rho_a: str, pair: Pair) -> float:
        clean = accuracy.get(("clean", defense, rho_a, pair[1]), math.nan)
        return float(clean - accuracy.get((attack, defense, rho_a, pair), math.nan))

    rows = []
    for attack, group in measured.groupby("attack", sort=False):
        name, values = str(attack), []
        pairs = seed_pairs(group)
        for cell, pair in zip(group.to_dict("records"), pairs, strict=True):
            standard = lost(name, "none", "0", pair)
            values.append(
                {
                    "protection": lost(name, "none", rho_a, pair),
                    "surrogate_robustness": -cell["surrogate_loss"],
                    "noise_robustness": -cell["noise_loss"],
                    "delusiveness": standard,
                    "stability": 100 * lost(name, hit, "0", pair) / standard
                    if standard >= _LEAST_LOSS
                    else math.nan,
                }
            )
        keys = tuple(found[found["attack"] == attack]["key"])
        each = pd.DataFrame(values)
        means = {str(name): mean(independent(pairs, each[name].tolist())) for name in each}
        options = _options(group["setting"].iloc[0])
        rows.append(
            {"attack": name, **options, "seeds": len(replicates(pairs)), **means, "keys": keys}
        )
    points = pd.DataFrame(rows)
    if points["protection"].isna().all():
        raise UserError("no clean control at rho_a 0 and above; run `ubench correlate` to its end")
    names = ("dataset", "learner", "preset", "rho_a")
    return points.assign(**{name: setting[name] for name in names})


def _setting(measured: pd.DataFrame) -> dict[str, str]:
    """Return what all variants have in common.

    Args:
        measured: cells whose robustness was measured.

    Raises:
        UserError: they differ there.
    """
    names = ("dataset", "learner", "preset", "rho_a", "rho_u")
    values = {name: sorted({*measured[name]}) for name in names}
    if any(len(values[name]) > 1 for name in names[:3]):
        raise UserError(
            "variants of several data sets, learners or presets; select one with --datasets, "
            "--learners or --presets"
        )
    radii, budgets = (sorted(values[name], key=order_of) for name in names[3:])
    if len(radii) > 1:
        raise UserError(f"robustness was measured at {', '.join(radii)}; select one by --rho-a 0,R")
    # Protection grows with the budget, which would then correlate with everything.
    if len(budgets) > 1:
        raise UserError(
            f"variants have noise of radius {', '.join(budgets)}; select one by --rho-u 0,R "
            "(0 is that of clean images)"
        )
    if len({*measured["reference"]}) > 1:
        raise UserError(
            "several reference networks measured the noise, because variants differ in surrogate, "
            "schedule or precision; select those of one by --plan or --methods"
        )
    return {name: values[name][0] for name in names}


def _uniform_noise(found: pd.DataFrame, rho_a: Radius) -> str:
    """Return the label of the defense that adds U(-rho_a, rho_a); empty if no cell has it."""
    labels = []
    for label, setting in found[["defense", "setting"]].drop_duplicates().to_numpy().tolist():
        defense = json.loads(setting).get("defense", {})
        radius = defense.get("options", {}).get("radius", "0")
        if defense.get("name") == "uniform-noise" and Radius(radius) == rho_a:
            labels.append(label)
    # One of an earlier version has a number.
    return min(labels, key=is_numbered, default="")


def _options(setting: str) -> dict[str, Any]:
    """Return the columns that describe a variant, from its options."""
    options = json.loads(setting)["poison"]["attack"]["options"]
    perturbation = str(options.get("perturbation", ""))
    radius = options.get("noise_rho_a") or options.get("rho_a", "0")
    noise = perturbation if perturbation == "none" else f"{perturbation} {option_text(radius)}"
    steps = options.get("stop") or options.get("steps", 0)
    return {"generator": option_text(options.get("rho_a", "0")), "noise": noise, "steps": steps}


def seeds_note(points: pd.DataFrame) -> str:
    """Return a sentence on the seeds of each point."""
    text = seeds_text([], zip(points["attack"], points["seeds"], strict=True))
    return "One seed." if text == "1 seed" else f"Mean over {text}."


def correlations(points: pd.DataFrame) -> dict[str, Correlation]:
    """Return the correlation of each quantity with protection, by its column.

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
