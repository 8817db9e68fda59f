"""The table of partial protection: shares of protected images as columns."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.reports.main import settings
from unlearnable_bench.results.aggregate import CONTROLS
from unlearnable_bench.results.pivot import cells, pivot
from unlearnable_bench.results.table import Table


@dataclass(frozen=True, kw_only=True)
class Protection(Report):
    """Clean test accuracy by the share of protected images, with the clean-subset baseline."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set, learner, preset, defense and rho_a."""
        return list(protection_tables(frame))


def protection_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield a table for each setting with more than one share of protected images.

    Args:
        frame: from `load_records`.
    """
    for part in settings(cells(frame)):
        for _, group in part.groupby(["defense", "rho_a"], sort=False):
            if set(group["protect"]) != {1.0}:
                # A method with only the full share would be an empty row.
                shared = {*group[group["protect"] != 1]["attack"], *CONTROLS}
                yield pivot("protection", group[group["attack"].isin(shared)], "protect")
