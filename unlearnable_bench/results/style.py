"""Options that every format of tables has."""

from dataclasses import dataclass
from typing import Literal

from unlearnable_bench.options import Configurable, option


@dataclass(frozen=True, kw_only=True)
class TableStyle(Configurable):
    """How the numbers and names of a table are printed."""

    digits: int = option(1, "decimal places of accuracies", minimum=0, maximum=6)
    aliases: str = option("", "names to print, LABEL=NAME by comma: sem=Ours,em=EM*")
    spread: Literal["std", "interval", "none"] = option(
        "std", "printed after the mean: sample standard deviation, 95 % interval or nothing"
    )
    peak: bool = option(False, "print the highest accuracy over epochs after the final one")
    transpose: bool = option(False, "methods as columns")
    budget: bool = option(False, "print the radius of each method's noise as a column of its own")
