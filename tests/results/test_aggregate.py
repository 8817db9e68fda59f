"""Labels are found once for equal cells, and again after a cell was changed in place."""

import numpy as np
import pandas as pd
import pytest
from report_cells import cell, frame, setting

from unlearnable_bench.results.aggregate import deviation, distinct_labels, mean, positions


def test_a_frame_that_was_changed_in_place_gets_new_labels() -> None:
    cells = frame(
        cell("sem", 10, setting=setting(steps=1)), cell("sem", 20, setting=setting(steps=2))
    )
    assert distinct_labels(cells)["attack"].str.startswith("sem #").tolist() == [False, True]
    cells.loc[1, "setting"] = setting(steps=1)
    assert distinct_labels(cells)["attack"].tolist() == ["sem", "sem"]
    cells.loc[0, "attack"] = "em"
    assert distinct_labels(cells)["attack"].tolist() == ["em", "sem"]


def test_labels_of_equal_cells_leave_the_other_columns_alone() -> None:
    cells = frame(cell("sem", 10))
    distinct_labels(cells)
    assert distinct_labels(cells.assign(test_accuracy=[30.0]))["test_accuracy"].tolist() == [30.0]


def test_positions_are_in_order_of_appearance_and_leave_out_rows_without_a_value() -> None:
    cells = pd.DataFrame({"a": ["y", "x", None, "y"], "b": [1, 2, 3, 1]})
    found = {key: places.tolist() for key, places in positions(cells, ["a", "b"])}
    assert found == {("y", 1): [0, 3], ("x", 2): [1]}
    assert [*found] == [("y", 1), ("x", 2)]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 667])
def test_mean_and_deviation_are_those_of_pandas(n: int) -> None:
    values = np.random.default_rng(n).uniform(0, 100, n)
    values[1::4] = np.nan
    column = pd.Series(values)
    np.testing.assert_allclose(mean(values), column.mean(), rtol=1e-14)
    np.testing.assert_allclose(deviation(values), column.std(ddof=1), rtol=1e-14)
