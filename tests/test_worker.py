"""What the worker gives to training, and what it takes from it into a record."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlearnable_bench import ImageSet, api
from unlearnable_bench.running import worker

SHORT = {
    "shapes.train": "60", "shapes.test": "20", "training.epochs": "1", "small-cnn.width": "4",
}  # fmt: skip


def run(out: Path, monkeypatch: pytest.MonkeyPatch, **outcome: Any) -> tuple[Any, list[Any]]:
    """Train one cell with early stopping; return its row and what training was given."""
    given: list[Any] = []
    train = worker.train

    def spy(*args: Any) -> Any:
        given.extend(args)
        return replace(train(*args), **outcome)

    monkeypatch.setattr(worker, "train", spy)
    plan = api.make_plan(methods=["clean"], defenses=["early-stopping"], settings=SHORT)
    assert not api.run(plan, out, device="cpu").failures
    return api.load_records(out).iloc[0], given


def test_the_chosen_epoch_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = run(tmp_path / "out", monkeypatch, accuracy=(40.0, 60.0, 50.0), chosen=0)
    assert (row["test_accuracy"], row["peak_accuracy"]) == (40.0, 60.0)


def test_images_held_out_are_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, given = run(tmp_path / "out", monkeypatch)
    parts = [part for part in given if isinstance(part, ImageSet)]
    trained, _test, held_out = ({image.tobytes() for image in part.images} for part in parts)
    assert not trained & held_out
    whole = api.make_plan(methods=["clean"], settings=SHORT).data.train
    assert trained | held_out == {np.ascontiguousarray(image).tobytes() for image in whole.images}
    assert len(parts[0]) + len(parts[2]) == len(whole)
