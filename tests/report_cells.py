"""Cells as `load_records` returns them, made by hand."""

import json
from typing import Any

import pandas as pd

USUAL: dict[str, Any] = {
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
    "poison_sha256": "",
    "protected_accuracy": None,
    "generation_seconds": 60.0,
    "preparation_seconds": 0.0,
    "training_seconds": 20.0,
    "device": "CPU",
}


def frame(*cells: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([USUAL | {"key": f"k{k}"} | cell for k, cell in enumerate(cells)])


def cell(attack: str, accuracy: float, **more: Any) -> dict[str, Any]:
    return {"attack": attack, "test_accuracy": accuracy, **more}


def seeds(attack: str, accuracies: list[float], **more: Any) -> list[dict[str, Any]]:
    return [cell(attack, accuracy, seed=k, **more) for k, accuracy in enumerate(accuracies)]


def near(attack: str, accuracy: float, **more: Any) -> list[dict[str, Any]]:
    """Three seeds so near to each other that intervals 2 points apart do not overlap."""
    return seeds(attack, [accuracy - 0.1, accuracy, accuracy + 0.1], **more)


def setting(**options: Any) -> str:
    """The part of a cell's setting that holds its attack's options."""
    return json.dumps({"poison": {"attack": {"options": options}}})
