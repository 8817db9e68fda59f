"""Comparison of two outputs of `ubench bench --json`: `ubench bench --against FILE`."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.storage.files import read_bytes

# Lists of values, each of which is in the titles of its jobs.
_LISTS = ("gradient_batches", "packed", "growth")
_NEXT = "make it with: ubench bench --json > bench.json"


@dataclass(frozen=True)
class Cost:
    """What one job costs.

    Attributes:
        seconds: time of a step, or of the work on a whole set.
        memory_mib: peak memory in MiB; None if it is not known.
    """

    seconds: float
    memory_mib: float | None


@dataclass(frozen=True)
class Sheet:
    """The output of `ubench bench --json`.

    Attributes:
        machine: device and versions as text.
        settings: what should be equal if two sheets are compared, by name.
        costs: the jobs by title, which holds batch size, cells, or number and size of images.
    """

    machine: str
    settings: Mapping[str, Any]
    costs: Mapping[str, Cost]

    @classmethod
    def of(cls, sheet: Mapping[str, Any]) -> "Sheet":
        """Read a sheet as `json.loads` returns it.

        Raises:
            ValueError: a value out of range.
            KeyError: it lacks a part.
            TypeError: a part of another type.
        """
        environment = sheet["environment"]
        settings = {"device": environment["device"]}
        # Versions that did not write it measured on the same terms.
        settings["precision"] = sheet.get("precision", "bf16" if environment["cuda"] else "fp32")
        settings["left out"] = ", ".join(sheet.get("without", [])) or "nothing"
        settings |= {
            f"scale.{name}": value for name, value in sheet["scale"].items() if name not in _LISTS
        }
        costs = {}
        for row in sheet["measurements"]:
            title = f"{row['job']}, batch {int(row['batch'])}"
            if int(row["cells"]) > 1:
                title += f", {int(row['cells'])} cells"
            time = float(row["milliseconds"]) / 1e3
            costs[title] = _cost(time, row["peak_memory_mib"])
        for row in sheet.get("whole_set", []):
            title = f"{row['job']}, {int(row['images']):,} images of {int(row['size'])} px"
            costs[title] = _cost(float(row["seconds"]), row["host_memory_mib"])
        return cls(machine_of(environment), settings, costs)

    @classmethod
    def read(cls, path: Path) -> "Sheet":
        """Read a file with the output of `ubench bench --json`.

        Raises:
            UserError: it is not such a file.
        """
        try:
            return cls.of(json.loads(read_bytes(path)))
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"--against {path}: {reason}; {_NEXT}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"--against {path} is not the output of ubench bench --json; {_NEXT}"
            ) from error


def machine_of(environment: Mapping[str, Any]) -> str:
    """Return device, driver and versions of an environment, as `describe` returns it, as text."""
    versions = ", ".join(f"{name} {v}" for name, v in environment["packages"].items())
    driver = f"driver {environment['driver']}, " if environment["driver"] else ""
    return f"{environment['device']}, {driver}{versions}"


def _cost(seconds: float, memory: Any) -> Cost:
    if not 0 < seconds < math.inf:
        raise ValueError(f"a time of {seconds}")
    return Cost(seconds, None if memory is None else float(memory))


@dataclass(frozen=True)
class Ratio:
    """A job that both sheets have.

    Attributes:
        job: its title.
        time: time here divided by the time there.
        memory: peak memory here divided by that there; None if either is unknown or below 1 MiB.
    """

    job: str
    time: float
    memory: float | None


@dataclass(frozen=True)
class Comparison:
    """The jobs of this run next to those of another one.

    Attributes:
        ratios: jobs of both, in the order of this run.
        only_here: titles of jobs that the other run lacks.
        only_there: titles of jobs that this run lacks.
        differences: settings that differ, in which ratios are not of the code alone.
    """

    ratios: list[Ratio]
    only_here: list[str]
    only_there: list[str]
    differences: list[str]


def compare(here: Sheet, there: Sheet) -> Comparison:
    """Return the ratios of this run's times and memory to another run's."""
    return Comparison(
        ratios=[
            Ratio(job, cost.seconds / there.costs[job].seconds, _share(cost, there.costs[job]))
            for job, cost in here.costs.items()
            if job in there.costs
        ],
        only_here=[job for job in here.costs if job not in there.costs],
        only_there=[job for job in there.costs if job not in here.costs],
        differences=list(differences(here.settings, there.settings)),
    )


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings that two sheets both have and that differ, as text."""
    for name, value in here.items():
        if name in there and there[name] != value:
            yield f"{name} is {value} here and {there[name]} there"


def _share(here: Cost, there: Cost) -> float | None:
    if here.memory_mib is None or there.memory_mib is None:
        return None
    if min(here.memory_mib, there.memory_mib) < 1:  # a page more or less, not a cost
        return None
    return here.memory_mib / there.memory_mib
