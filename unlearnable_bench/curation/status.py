"""State of a results folder: what is done, running, failed and missing."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from unlearnable_bench.results import marker
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.locks import holder

_LABELS = ("attack", "learner", "defense", "rho_a", "rho_u", "protect", "seed", "noise_seed")


@dataclass(frozen=True)
class Running:
    """Work that a process has claimed.

    Attributes:
        key: key of the cell, or of the poison.
        name: name of the cell or the noise.
        is_cell: whether it is a cell or a measurement of a plan.
        where: process, user and host, as far as the lock's file says.
        since: when it was claimed, UTC, ISO 8601; or empty.
        progress: loop, finished steps and their number in the last checkpoint; or empty.
        saved: when that was written, UTC, ISO 8601; or empty.
    """

    key: str
    name: str
    is_cell: bool
    where: dict[str, Any]
    since: str
    progress: str
    saved: str


@dataclass(frozen=True)
class Failed:
    """A cell or measurement that failed and is not running again.

    Attributes:
        key: its key.
        name: its name.
        reason: why, in one line.
        created: when, UTC, ISO 8601.
        has_traceback: whether its file has a traceback; a lost process leaves none.
    """

    key: str
    name: str
    reason: str
    created: str
    has_traceback: bool


@dataclass(frozen=True)
class PlanState:
    """A plan and how much of it is done.

    Attributes:
        key: key of the plan.
        command: the command that made it; empty if it was made in Python.
        created: when it was first run, UTC, ISO 8601.
        last_run: when it was last run.
        cells: number of its cells.
        done: number of those that have a record.
        failed: number of cells and measurements that failed.
        measurements: number of its measurements of robustness.
        measured: number of those that are done.
    """

    key: str
    command: str
    created: str
    last_run: str
    cells: int
    done: int
    failed: int
    measurements: int
    measured: int


@dataclass(frozen=True)
class PoisonState:
    """A poison that finished cells were trained on.

    Attributes:
        key: key of the poison, which `ubench export` takes.
        name: attack and seed of the noise.
        cells: keys of those cells.
        stored: whether its images are in the folder; otherwise `ubench export` makes them again.
    """

    key: str
    name: str
    cells: tuple[str, ...]
    stored: bool


@dataclass(frozen=True)
class Status:
    """The state of a results folder.

    Attributes:
        folder: the folder.
        done: name by key of the cells that have a record.
        measured: name by key of the finished measurements of robustness of plans.
        running: claimed work.
        failed: cells and measurements without a result.
        missing: name by key of the cells and measurements of plans that are neither done, running
            nor failed.
        plans: the plans, the oldest first.
        poisons: the poisons of the cells that have a record.
        disk: bytes by folder.
    """

    folder: str
    done: dict[str, str]
    measured: dict[str, str]
    running: tuple[Running, ...]
    failed: tuple[Failed, ...]
    missing: dict[str, str]
    plans: tuple[PlanState, ...]
    poisons: tuple[PoisonState, ...]
    disk: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return the fields in JSON's types."""
        return asdict(self)


def status_of(path: Path) -> Status:
    """Return the state of a results folder; damaged files are noted (`damage.note`).

    Raises:
        UserError: not a results folder.
    """
    folder = ResultsFolder(path)
    records = list(folder.sound_records())
    done = {
        record.key: name_of({name: getattr(record, name) for name in _LABELS}) for record in records
    }
    plans = folder.plans(lenient=True)
    failures = folder.failures(lenient=True)
    labels: dict[str, Mapping[str, Any]] = {k: f.get("labels") or {} for k, f in failures.items()}
    asked: dict[str, None] = {}
    probes: dict[str, None] = {}
    for plan in plans.values():
        asked |= dict.fromkeys(plan["cells"])
        known = plan.get("labels") or []
        labels |= dict(zip(plan["cells"], known, strict=False))
        probes |= dict.fromkeys(_probes(plan))
        labels |= _probes(plan)
    there = {one.key for one in MEASURED_ROBUSTNESS.all(path)}
    measured = {key: name_of(labels[key]) for key in probes if key in there}
    finished = done.keys() | measured.keys()
    running = tuple(_running(folder, labels))
    busy = {one.key for one in running}
    failed = tuple(
        Failed(
            key,
            name_of(labels.get(key, {})),
            str(found["reason"]),
            str(found["created"]),
            bool(found.get("traceback")),
        )
        for key, found in failures.items()
        if key not in finished | busy
    )
    open_keys = (key for key in asked | probes if key not in finished | busy | failures.keys())
    return Status(
        folder=str(path),
        done=done,
        measured=measured,
        running=running,
        failed=failed,
        missing={key: name_of(labels.get(key, {})) for key in open_keys},
        plans=tuple(_plans(plans, finished, set(failures))),
        poisons=tuple(_poisons(folder, records)),
        disk=_disk(path),
    )


def name_of(labels: Mapping[str, Any]) -> str:
    """Return the name of a cell or measurement from its labels in a plan, failure or record."""
    if not labels:
        return "a cell without labels"
    if "measurement" in labels:
        return str(labels["measurement"])
    attack = "clean-subset baseline" if labels["attack"] == "remainder" else labels["attack"]
    defense = "" if labels["defense"] == "none" else f", {labels['defense']}"
    radius = _radius(str(labels["rho_u"]))
    share = labels.get("protect", 1)
    protect = "" if share == 1 else f", {100 * share:g} % protected"
    seed = labels.get("noise_seed")
    noise = "" if seed is None else f"noise seed {seed}, "
    return (
        f"{attack}{radius}, {labels['learner']}{defense}{protect}, rho_a {labels['rho_a']}, "
        f"{noise}seed {labels['seed']}"
    )


def _plans(
    plans: Mapping[str, dict[str, Any]], done: set[str], failed: set[str]
) -> Iterator[PlanState]:
    for key, plan in sorted(plans.items(), key=lambda item: str(item[1].get("created", ""))):
        created = str(plan.get("created", ""))
        cells, probes = set(plan["cells"]), {*_probes(plan)}
        yield PlanState(
            key=key,
            command=str(plan.get("command", "")),
            created=created,
            last_run=str(plan.get("last_run") or created),
            cells=len(cells),
            done=len(cells & done),
            failed=len(((cells | probes) & failed) - done),
            measurements=len(probes),
            measured=len(probes & done),
        )


def _probes(plan: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the labels of the measurements of a plan by key."""
    found = plan.get("measurements")
    return found if isinstance(found, dict) else {}


def _poisons(folder: ResultsFolder, records: Sequence[Record]) -> Iterator[PoisonState]:
    """Yield the poisons of records, without clean images."""
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.attack not in ("clean", "remainder"):
            cells[record.poison["key"]].append(record)
    names = {key: _poison_name(own[0]) for key, own in cells.items()}
    numbers = Counter(names.values())
    for key, own in sorted(cells.items(), key=lambda item: (item[1][0].attack, item[0])):
        name = names[key]
        if numbers[name] > 1:  # such as of two presets, whose surrogates differ
            name += f", {own[0].preset}"
        yield PoisonState(key, name, tuple(one.key for one in own), folder.has_poison(key))


def _poison_name(record: Record) -> str:
    seed = record.seed if record.noise_seed is None else record.noise_seed
    return f"{record.attack}{_radius(str(record.rho_u))}, seed {seed}"


def _radius(rho_u: str) -> str:
    """Return ` (RADIUS)` if it is not the usual one."""
    return "" if rho_u in ("", "0", "8/255") else f" ({rho_u})"


def _running(folder: ResultsFolder, labels: Mapping[str, Mapping[str, Any]]) -> Iterator[Running]:
    for lock in sorted((folder.path / "work").glob("*.lock")):
        where = holder(lock)
        if where is None:
            continue
        key = lock.stem
        name = name_of(labels[key]) if labels.get(key) else str(where.pop("what", "") or key)
        where.pop("what", "")
        progress, saved = progress_of(folder.checkpoint(key))
        since = str(where.pop("since", ""))
        yield Running(key, name, bool(labels.get(key)), where, since, progress, saved)


def progress_of(checkpoint: Path) -> tuple[str, str]:
    """Return the loop and the steps of a checkpoint, and when it was written; or empty texts."""
    try:
        with safe_open(checkpoint, "np") as file:
            about = json.loads(file.metadata()["about"])
        steps, totals = about["done"], about.get("totals", {})
        written = datetime.fromtimestamp(checkpoint.stat().st_mtime, UTC)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return "", ""
    if not steps:
        return "", ""
    # The loop that is not finished, or the last one.
    label = next((name for name in steps if steps[name] < totals.get(name, 0)), [*steps][-1])
    of = f" of {totals[label]}" if label in totals else ""
    return f"{label}, {steps[label]}{of} steps", written.isoformat(timespec="seconds")


def _disk(path: Path) -> dict[str, int]:
    """Return the bytes of each folder in the results folder."""
    sizes: dict[str, int] = {}
    for place, _, names in os.walk(path):
        inside = Path(place).relative_to(path).parts
        name = inside[0] if inside else marker.NAME
        for one in names:
            try:
                sizes[name] = sizes.get(name, 0) + os.lstat(Path(place) / one).st_size
            except OSError:  # removed meanwhile
                continue
    return sizes
