"""Options of every format of tables."""

from dataclasses import dataclass
from typing import Literal

from unlearnable_bench.options import Configurable, option


@dataclass(frozen=True, kw_only=True)
class TableStyle(Configurable):
    """How the numbers and names of a table are printed."""

    digits: int = option(1, "decimal places of accuracies", minimum=0, maximum=6)
    aliases: str = option("", "names to print instead of labels, e.g. sem=Ours,em=EM*")
    spread: Literal["std", "interval", "none"] = option(
        "std", "spread after the mean: sample standard deviation, 95 % interval or none"
    )
    peak: bool = option(False, "highest accuracy over epochs, printed after the final accuracy")
    transpose: bool = option(False, "methods as columns")
    budget: bool = option(False, "column with the radius of each method's noise")
