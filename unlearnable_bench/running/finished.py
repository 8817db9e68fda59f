"""Whether a results folder holds the result of a cell or a probe, whole, or its failure."""

from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.planning.plan import Cell, Probe
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS
from unlearnable_bench.results.store import ResultsFolder


def is_done(folder: ResultsFolder, item: Cell | Probe) -> bool:
    """Return whether a folder holds the result of a cell or a probe, whole."""
    if isinstance(item, Probe):
        return MEASURED_ROBUSTNESS.has(folder.path, item.key)
    try:
        return folder.record(item.key) is not None
    except UserError:  # damaged
        return False


def settle(folder: ResultsFolder, item: Cell | Probe) -> bool:
    """Return the same under the claim, after a damaged result was set aside."""
    if isinstance(item, Probe):
        return MEASURED_ROBUSTNESS.settle(folder.path, item.key) is not None
    return folder.settle(item.key)


def failed_in(folder: ResultsFolder, key: str, job: str) -> dict[str, Any] | None:
    """Return the failure of a cell if it failed in this run of several workers."""
    try:
        found = folder.check_failure(key)
    except UserError:  # damaged, or none
        return None
    return found if found.get("job") == job else None
