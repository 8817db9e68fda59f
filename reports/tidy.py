"""Results for other programs: one row or object for each group of seeds."""

from dataclasses import dataclass

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.results.table import aggregate


@dataclass(frozen=True, kw_only=True)
class CSV(Report):
    """Comma-separated values with a header, one row per setting, method and rho_a."""

    def render(self, frame: pd.DataFrame) -> str:
        """Return the text."""
        return str(_rows(frame).to_csv(index=False))


@dataclass(frozen=True, kw_only=True)
class JSON(Report):
    """A list of objects, one per setting, method and rho_a."""

    def render(self, frame: pd.DataFrame) -> str:
        """Return the text."""
        return str(_rows(frame).to_json(orient="records", indent=1)) + "\n"


def _rows(frame: pd.DataFrame) -> pd.DataFrame:
    return aggregate(frame).drop(columns="setting")
