"""Results for other programs: one row or object per group of seeds."""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.reports._csv import harmless
from unlearnable_bench.results.aggregate import aggregate

_NEEDS = ("attack_needs", "defense_needs", "learner_needs")


@dataclass(frozen=True, kw_only=True)
class CSV(Report):
    """Comma-separated values with a header, one row per setting, method and rho_a."""

    suffix: ClassVar[str] = ".csv"
    stem: ClassVar[str] = "results"

    def render(self, frame: pd.DataFrame) -> str:
        """Return the text; an apostrophe precedes names that are formulas in a spreadsheet."""
        rows = _rows(frame)
        for name in rows.select_dtypes(exclude="number"):
            rows[name] = [harmless(text) if isinstance(text, str) else text for text in rows[name]]
        return str(rows.to_csv(index=False))


@dataclass(frozen=True, kw_only=True)
class JSON(Report):
    """JSON list of objects, one per setting, method and rho_a."""

    suffix: ClassVar[str] = ".json"
    stem: ClassVar[str] = "results"

    def render(self, frame: pd.DataFrame) -> str:
        """Return the text."""
        return str(_rows(frame).to_json(orient="records", indent=1)) + "\n"


def _rows(frame: pd.DataFrame) -> pd.DataFrame:
    rows: pd.DataFrame = aggregate(frame).drop(columns="setting")
    shown = [name for name in _NEEDS if name in frame.columns]
    labels = ["attack", "defense", "learner"]
    needs = frame.drop_duplicates(labels).set_index(labels)[shown]
    return rows.join(needs, on=labels)
