"""Checks of what an attack returns, and of stored poisons, against what was promised."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness import Harness
from unlearnable_bench.identity import as_json
from unlearnable_bench.images import Pixels, blocks
from unlearnable_bench.planning.plan import PoisonPlan
from unlearnable_bench.poison import Budget, Poison
from unlearnable_bench.radius import Radius
from unlearnable_bench.storage.damage import DamagedError


def check_surrogate(name: str, harness: Harness) -> None:
    """Refuse an attack that declares a network but did not ask for one."""
    if harness.declared != "none" and harness.declared not in harness.asked:
        default = "(the default) " if harness.declared == "own" else ""
        raise UserError(
            f'attack {name!r} declares surrogate = "{harness.declared}" {default}'
            f"and asked for {' and '.join(harness.asked) or 'no network'}; declare surrogate = "
            f'"{next(iter(harness.asked), "none")}", so that its results do not name a network '
            "that it did not use"
        )


def check_stored(path: Path, plan: PoisonPlan, images: Pixels, metadata: Mapping[str, Any]) -> None:
    """Hold a stored poison, which may come from another folder, against its plan and its promise.

    Raises:
        DamagedError: it is another poison, or breaks its budget.
    """
    if metadata.get("identity", as_json(plan.identity)) != as_json(plan.identity):
        raise DamagedError(path, "its identity is not that of its key")
    try:
        budget = metadata["budget"]
        norm, radius = budget["norm"], budget["radius"]
        promised = Budget(norm, Radius(radius) if norm == "linf" else radius)
        float(metadata["seconds"])
        check_poison(plan.attack.name, plan.data.train.images, Poison(images, promised))
    except UserError as error:
        raise DamagedError(path, error) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(path, f"its metadata lacks or garbles {error}") from error


def check_poison(name: str, clean: Pixels, poison: Any) -> None:
    """Refuse a poison of another type or shape, beyond its budget, or without any change."""
    if not isinstance(poison, Poison):
        raise UserError(f"attack {name!r} returned {type(poison).__name__} instead of a Poison")
    images: Any = poison.images
    if not isinstance(images, np.ndarray):
        kind = type(images).__name__
        raise UserError(f"attack {name!r} returned images as {kind} instead of a numpy array")
    if images.dtype != np.uint8 or images.shape != clean.shape:
        got = f"{images.dtype} {list(images.shape)}"
        raise UserError(f"attack {name!r} returned {got} instead of uint8 {list(clean.shape)}")
    excess = poison.budget.excess(clean, images)
    if excess:
        clip = ", as `Poison.from_noise` does," if poison.budget.norm == "linf" else ""
        raise UserError(
            f"attack {name!r} breaks its promised budget: {excess}; clip the noise{clip} or raise "
            "the budget"
        )
    bounded = poison.budget.norm != "none"
    unchanged = (np.array_equal(images[part], clean[part]) for part in blocks(clean))
    if (poison.budget.radius or not bounded) and all(unchanged):
        within = f" within {poison.budget.norm} {poison.budget.radius}" if bounded else ""
        raise UserError(
            f"attack {name!r} changed no image{within}; noise is in units of 1/255 "
            "(`Poison.from_noise`), and images are rounded to 8 bits"
        )
