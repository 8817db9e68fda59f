"""The table of defenses: methods as rows, defenses as columns, at one rho_a."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.reports.main import settings
from unlearnable_bench.results.aggregate import CONTROLS
from unlearnable_bench.results.pivot import cells, pivot
from unlearnable_bench.results.table import Table


@dataclass(frozen=True, kw_only=True)
class Defenses(Report):
    """Clean test accuracy of methods under each defense, one table per rho_a."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set, learner, preset and rho_a."""
        return list(defense_tables(frame))


def defense_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield a table for each rho_a with more than one defense, `none` included.

    Args:
        frame: from `load_records`.
    """
    for part in settings(cells(frame)):
        whole = part[part["protect"] == 1]
        for _, group in whole.groupby("rho_a", sort=False):
            if len(set(group["defense"])) > 1:
                defended = set(group[group["defense"] != "none"]["attack"])
                # A method without a defense would be an empty row.
                wanted = defended | {*CONTROLS}
                yield pivot("defenses", group[group["attack"].isin(wanted)], "defense")
