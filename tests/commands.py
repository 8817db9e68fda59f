"""What tests of the command line have in common."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.seal import sealed_json, unsealed_json

ATTACKS = ("clean", "em", "random", "rem", "sem")
QUICK = ("--set", "training.epochs=1", "--preset", "smoke", "--device", "cpu")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Command = Callable[..., Result]


def arrays(train: int = 120, test: int = 40) -> dict[str, Any]:
    """Return four classes of 16 px images that differ in colour."""
    random = np.random.default_rng(0)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
    found: dict[str, Any] = {"class_names": np.array(["red", "green", "blue", "yellow"])}
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 4
        noise = random.normal(0, 40, (count, 16, 16, 3))
        images = np.clip(colours[labels][:, None, None] + noise, 0, 255)
        found |= {f"x_{split}": images.astype(np.uint8), f"y_{split}": labels}
    return found


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def run_tiny(*arguments: object) -> tuple[object, ...]:
    return ("run", *QUICK, "--dataset", "npz:tiny.npz", "--out", "out", *arguments)


def name_other_pixels(record: Path) -> None:
    """Let a record's file say that its learner was trained on other pixels."""
    fields = json.loads(unsealed_json(record.read_bytes())[0])
    fields["poison"]["sha256"] = "0" * 64
    record.write_text(sealed_json(fields))


SEM_TINY = run_tiny("--methods", "sem", "--set", "sem.steps=2")


def keys(folder: str = "results") -> dict[str, str]:
    """Return the key of each finished cell by the name of its attack."""
    return {record.attack: record.key for record in ResultsFolder(Path(folder)).records()}


def broken(*_: object) -> None:
    raise ZeroDivisionError("two\nlines")


def damage(path: Path, place: int = -9) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
