"""Frames that were made by hand, and what is read off a figure, for the tests of figures."""

import json
from itertools import count
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_USUAL: dict[str, Any] = {
    "folder": "results",
    "status": "done",
    "dataset": "shapes",
    "attack": "sem",
    "learner": "small-cnn",
    "defense": "none",
    "rho_a": "0",
    "rho_u": "8/255",
    "protect": 1.0,
    "preset": "smoke",
    "seed": 0,
    "setting": "{}",
    "poison": "p",
    "generation_seconds": 60.0,
    "generation_resumed": False,
    "generation_device": "CPU",
}


def frame(*cells: dict[str, Any]) -> pd.DataFrame:
    keys = (f"key{number}" for number in count())
    return pd.DataFrame([_USUAL | {"key": next(keys)} | one for one in cells])


def cell(attack: str, accuracy: float, rho_a: str = "0", **more: Any) -> dict[str, Any]:
    curve = [accuracy / 2, accuracy]
    usual = {"attack": attack, "test_accuracy": accuracy, "rho_a": rho_a, "epoch_accuracy": curve}
    return usual | more


def seeds(
    attack: str, accuracies: list[float], rho_a: str = "0", **more: Any
) -> list[dict[str, Any]]:
    return [cell(attack, one, rho_a, seed=k, **more) for k, one in enumerate(accuracies)]


def setting(
    attack: dict[str, Any], defense: dict[str, Any] | None = None, name: str = "sem", **more: Any
) -> str:
    """Return a cell's setting with the options of its attack and its defense."""
    part = {"name": "jpeg" if defense else "none", "options": defense or {}, "version": "1"}
    poison = {"attack": {"name": name, "options": attack, "version": "1"}, "seed": None}
    return json.dumps({"poison": poison, "defense": part, "labels": [], **more})


def several() -> pd.DataFrame:
    """Two radii, a defense, three seeds of one method and one of the others."""
    return frame(
        *(cell("clean", 94.0 - k, radius) for k, radius in enumerate(("0", "4/255"))),
        *seeds("sem", [13.0, 14.0, 18.0]),
        *seeds("sem", [36.0, 38.0, 40.0], "4/255", generation_seconds=300.0),
        cell("em", 22.0),
        cell("em", 84.0, "4/255", generation_seconds=40.0),
        cell("em", 80.0, defense="jpeg"),
    )


def panels(made: Figure) -> list[Axes]:
    return [ax for ax in made.axes if ax.get_title(loc="left")]


def lines(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    """Return the points of the lines, by their markers."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in ax.lines:
        marker = str(line.get_marker())
        if marker not in ("None", "none", "_", "|"):
            points = zip(line.get_xdata(), line.get_ydata(), strict=True)  # type: ignore[arg-type]
            found.setdefault(marker, []).extend((float(x), float(y)) for x, y in points)
    return found


def note(made: Figure) -> str:
    return made.legends[0].get_title().get_text().replace("\n", " ")
