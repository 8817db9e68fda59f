"""The transfer table: methods as rows, learners as columns."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.errors import UserError
from unlearnable_bench.results.aggregate import CONTROLS
from unlearnable_bench.results.pivot import cells, pivot
from unlearnable_bench.results.table import Table


@dataclass(frozen=True, kw_only=True)
class Transfer(Report):
    """Clean test accuracy of methods with each learner, one table per rho_a and defense."""

    def render(self, frame: pd.DataFrame) -> list[Table]:
        """Return one table for each data set, preset, defense and rho_a with several learners.

        Raises:
            UserError: no setting has several learners.
        """
        tables = list(transfer_tables(frame))
        if not tables:
            raise UserError(
                "no setting has several learners; run with --learners, such as --learners "
                "resnet18,vgg16-bn"
            )
        return tables


def transfer_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield a table for each setting that was run with more than one learner.

    Args:
        frame: from `load_records`.
    """
    found = cells(frame)
    for _, group in found.groupby(["dataset", "preset", "defense", "rho_a", "protect"], sort=False):
        if len({*group["learner"]}) > 1:
            # A method with only one learner would be an empty row.
            learners = group.groupby("attack")["learner"].nunique()
            wanted = {*learners[learners > 1].index, *CONTROLS}
            yield pivot("transfer", group[group["attack"].isin(wanted)], "learner")
