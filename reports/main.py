"""The main table: methods as rows, radii of adversarial training as columns."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.results.pivot import cells, pivot
from unlearnable_bench.results.table import Table


@dataclass(frozen=True, kw_only=True)
class Main(Report):
    """Clean test accuracy of methods at each rho_a, one table per data set, learner and preset."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set, learner, preset and defense with several radii."""
        return list(main_tables(frame))


def main_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield the tables over rho_a.

    A defense that was run at only one radius is a column of the table of defenses instead.

    Args:
        frame: from `load_records`.
    """
    for part in settings(cells(frame)):
        whole = part[part["protect"] == 1]
        for defense, group in whole.groupby("defense", sort=False):
            single = len(set(group["rho_a"])) == 1 and len(group) < len(whole)
            if defense != "none" and single:
                continue
            yield pivot("main", group, "rho_a")
            if group["protected_accuracy"].notna().any():
                only = "test images of the protected classes"
                yield pivot("main", group, "rho_a", kind="protected_accuracy", title=[only])


def settings(found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the cells of each data set, learner and preset."""
    if not found.empty:
        for _, part in found.groupby(["dataset", "learner", "preset"], sort=False):
            yield part
