"""Frames that the user joined: their index repeats, and a record can occur twice."""

from typing import Any

import pandas as pd
import pytest

from unlearnable_bench.errors import UserError
from unlearnable_bench.planning import registry
from unlearnable_bench.results.aggregate import aggregate, each_once
from unlearnable_bench.results.frame import select
from unlearnable_bench.results.rendering import rendered, saved


def joined(frame: pd.DataFrame) -> pd.DataFrame:
    half = frame.iloc[: len(frame) // 2]
    return pd.concat([half.reset_index(drop=True), frame.reset_index(drop=True)])


def outcome(name: str, frame: pd.DataFrame) -> Any:
    try:
        found = rendered(registry.reports.get(name)(), name, frame)
    except UserError as error:
        return str(error)
    return found if isinstance(found, str | bytes | list) else saved(found, "png")


@pytest.mark.parametrize("name", registry.reports.names())
def test_a_report_of_joined_frames_is_that_of_their_cells(frame: pd.DataFrame, name: str) -> None:
    assert outcome(name, joined(frame)) == outcome(name, frame)


def test_a_frame_of_means_and_a_selection_take_joined_frames(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(aggregate(joined(frame)), aggregate(frame))
    chosen = select(joined(frame), attack=["sem"], seed=["0"])
    assert {*chosen["key"]} == {*select(frame, attack=["sem"], seed=["0"])["key"]}


def test_a_finished_cell_counts_before_one_that_is_not() -> None:
    cells = pd.DataFrame(
        {"key": ["a", "b", "a", "b"], "status": ["missing", "done", "done", "failed"]}
    )
    assert each_once(cells)["status"].tolist() == ["done", "done"]
