"""The cells of results folders as one tidy DataFrame, the only input of reports."""

import gc
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from unlearnable_bench.contract import Need
from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.identity import network_key
from unlearnable_bench.planning import registry
from unlearnable_bench.radius import Radius, norm_and_bound
from unlearnable_bench.results.detection import DETECTIONS
from unlearnable_bench.results.names import outside_brackets
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS, Robustness
from unlearnable_bench.results.store import ResultsFolder

LABELS = ("dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset", "seed")
_SEEDS = ("seed", "noise_seed")
_VALUES = (
    "test_accuracy", "protected_accuracy", "poisoned_test_accuracy", "peak_accuracy",
    "train_accuracy", "epoch_accuracy", "classes", "resumed", "packed", "peak_memory", "created",
)  # fmt: skip
QUALITY = ("linf", "l2", "psnr", "ssim")
ROBUSTNESS = ("surrogate_loss", "surrogate_accuracy", "noise_loss", "noise_accuracy")


def load_records(
    out: Path | str | Sequence[Path | str],
    keys: Collection[str] | None = None,
    *,
    unfinished: bool = False,
) -> pd.DataFrame:
    """Return the cells of one or more results folders, one row each.

    Columns:
        key: key of the record, `cells/KEY.json`.
        folder: the results folder as given.
        checksum: whether the record has one, as every version from 0.3 on writes.
        status: `done`; with `unfinished` also `failed` and `missing`, whose numbers are NaN.
        reason: why a cell failed, in one line; otherwise empty.
        dataset, attack, learner, defense, preset: labels, with changed options in brackets.
        rho_a, rho_u: radii as text: `4/255`; of another norm than L-infinity `l2 1.3`,
            `l0 1` (pixels) or `none`.
        rho_a_value, rho_u_value: the same as numbers: in units of the pixel range (0.0157 for
            `4/255`), of norm l0 in pixels; NaN for `none`.
        attack_needs, defense_needs: what the installed plugins of these names declare to need
            besides images (`labels`, `clean subset`; joined by `+`); empty if not installed.
        learner_needs: `pretrained weights` if the learner starts from a file, otherwise `nothing`.
        protect: share of the images that are poisoned, 0 to 1.
        seed, noise_seed: seeds of training and of the noise; a cell is one replicate of both.
        test_accuracy, protected_accuracy, peak_accuracy, train_accuracy: in percent.
        poisoned_test_accuracy: in percent, on poisoned test images; None if the poison is not a
            function of image and class.
        epoch_accuracy: list of clean test accuracies in percent, one per epoch.
        classes: number of classes, or None in records before 0.2.
        setting: everything that determines the cell except its seeds, as JSON.
        poison: key of the poison.
        poison_sha256: hash of the poisoned training images, equal for equal images.
        generation_seconds, preparation_seconds, training_seconds: without compilation.
        warmup_seconds, evaluation_seconds: of the cell, not included in the above.
        generation_warmup_seconds: compilation and capture of the generation; NaN in old records.
        generation_resumed, resumed: whether noise and training were interrupted.
        linf, l2, psnr, ssim: measured on the poison (levels of 1/255, L2 in units of the pixel
            range, dB, 0 to 1); NaN in records before 0.2.
        surrogate_loss, surrogate_accuracy, noise_loss, noise_accuracy: robustness at rho_a of the
            poison's surrogate and of its noise, as `ubench correlate` measures them
            (`results/robustness.py`); NaN if not measured.
        reference: key of the network that measured the noise's robustness, otherwise empty.
        detection: accuracy in percent by test, as `ubench detect` measures them on the poison
            (`results/detection.py`): {"linear": 98.2}; empty if not measured.
        device, generation_device: name of the CPU or GPU; `2 x NAME` for noise made by two.
        environment, generation_environment: versions, driver and git revision, as JSON objects.
        packed: cells that shared the device; peak_memory: bytes; created: UTC, ISO 8601.
        last_run: when a run last asked for the cell, as far as plans say; UTC, ISO 8601.

    Damaged files are left out; each is a warning of the logger `unlearnable_bench.storage.damage`.

    `frame.attrs["differing"]` is the number of cells whose accuracy differs between folders; the
    first folder's is used.

    Args:
        out: the results folder, or several.
        keys: keys of the cells to return, in that order; None: all, in the order of the plans,
            then of creation.
        unfinished: add rows for cells of plans that failed or are missing.

    Raises:
        UserError: not a results folder.
    """
    paths = [out] if isinstance(out, Path | str) else out
    folders = [ResultsFolder(Path(path)) for path in paths]
    rows: dict[str, dict[str, Any]] = {}
    differing = 0
    with _no_collection():
        measured = _Measured([folder.path for folder in folders])
        for folder in folders:
            for row in map(measured.added, _rows(folder, keys, unfinished=unfinished)):
                known = rows.setdefault(row["key"], row)
                if known["status"] != "done":
                    rows[row["key"]] = row
                elif row["status"] == "done":
                    differing += known["test_accuracy"] != row["test_accuracy"]
    ordered = rows.values() if keys is None else (rows[key] for key in keys if key in rows)
    frame = pd.DataFrame(list(ordered))
    frame.attrs["differing"] = differing
    # A long text with few distinct values; as a category it is compared by code.
    return frame if frame.empty else frame.astype({"setting": "category"})


def _rows(
    folder: ResultsFolder, keys: Collection[str] | None, *, unfinished: bool
) -> Iterator[dict[str, Any]]:
    path = folder.path
    records = {record.key: _row(record, path) for record in folder.sound_records(keys)}
    plans = folder.plans(lenient=True) if keys is None or unfinished else {}
    order = _plan_order(plans, records)
    last_runs: dict[str, str] = {}
    for plan in plans.values():
        last_run = str(plan.get("last_run") or plan.get("created", ""))
        for key in plan["cells"]:
            last_runs[key] = max(last_runs.get(key, ""), last_run)
    if unfinished:
        failures = folder.failures(lenient=True)
        for key, labels in order.items():
            if key not in records and labels and (keys is None or key in keys):
                records[key] = _unfinished(key, labels, failures.get(key), path)
    for key, row in records.items():
        row["last_run"] = max(row["created"], last_runs.get(key, ""))
    made = sorted(records.values(), key=lambda row: [row[name] for name in ("created", *_SEEDS)])
    position = {key: k for k, key in enumerate(order)}
    yield from sorted(made, key=lambda row: position.get(row["key"], len(position)))


class _Measured:
    """The measurements of poisons in some folders, of equal ones the newest.

    Args:
        paths: the results folders; a cell and the measurement of its poison may be in two.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._detections: dict[tuple[str, str], dict[str, float]] = {}
        self._robustness: dict[str, dict[Any, Robustness]] = {}
        detections = chain.from_iterable(map(DETECTIONS.all, paths))
        for one in sorted(detections, key=attrgetter("created")):
            images = one.identity["data"], one.images
            self._detections.setdefault(images, {})[one.test] = one.accuracy
        robustness = chain.from_iterable(map(MEASURED_ROBUSTNESS.all, paths))
        for found in sorted(robustness, key=attrgetter("created")):
            of_poison = self._robustness.setdefault(found.poison, {})
            of_poison[found.identity.get("reference")] = found

    def added(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with what is measured of its poison."""
        images = row.pop("data", ""), row.get("poison_sha256", "")
        row["detection"] = self._detections.get(images, {})
        return _with_robustness(row, self._robustness.get(row.get("poison", ""), {}))


def _plan_order(
    plans: dict[str, dict[str, Any]], records: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any] | None]:
    """Return the keys of the cells of all plans, older plans first, with their labels."""

    def made(plan: dict[str, Any]) -> str:
        if "created" in plan:
            return str(plan["created"])
        cells = [records[key]["created"] for key in plan["cells"] if key in records]
        return str(min(cells, default="9"))

    order: dict[str, dict[str, Any] | None] = {}
    for plan in sorted(plans.values(), key=made):
        labels = plan.get("labels") or [None] * len(plan["cells"])
        for key, label in zip(plan["cells"], labels, strict=True):
            order[key] = order.get(key) or label
    return order


def _row(record: Record, path: Path) -> dict[str, Any]:
    poison, environment = record.poison, record.environment
    quality = poison.get("quality", {})
    made_in = poison.get("environment", environment)
    row = {"key": record.key, "folder": str(path), "checksum": record.has_checksum}
    row |= {"status": "done", "reason": ""}
    row |= {name: getattr(record, name) for name in (*LABELS, *_VALUES)}
    return row | {
        "noise_seed": record.seed if record.noise_seed is None else record.noise_seed,
        **_needs_of_record(record.identity),
        "rho_u": str(record.rho_u),
        **_radius_values(record.rho_a, str(record.rho_u)),
        "setting": record.setting,
        "poison": poison["key"],
        "poison_sha256": poison["sha256"],
        "data": record.identity["poison"]["data"],
        "generation_seconds": poison["seconds"],
        "generation_warmup_seconds": poison.get("warmup_seconds", float("nan")),
        "preparation_seconds": record.seconds.get("preparation", float("nan")),
        "training_seconds": record.seconds["training"],
        "warmup_seconds": record.seconds["warmup"],
        "evaluation_seconds": record.seconds["evaluation"],
        "generation_resumed": poison.get("resumed", False),
        "device": environment["device"],
        "generation_device": _device_of(poison, made_in.get("device", environment["device"])),
        "environment": environment,
        "generation_environment": made_in,
        **{name: quality.get(name, float("nan")) for name in QUALITY},
        **dict.fromkeys(ROBUSTNESS, float("nan")),
        "reference": "",
    }


def _device_of(poison: Mapping[str, Any], name: str) -> str:
    """Return the name of the devices that made a noise; several have other times than one."""
    return f"{poison['shards']} x {name}" if "shards" in poison else name


def _radius_values(rho_a: str | None, rho_u: str | None) -> dict[str, float]:
    """Return radii as numbers, NaN for a radius that is absent or unbounded."""
    values = {}
    for name, text in (("rho_a_value", rho_a), ("rho_u_value", rho_u)):
        norm, bound = norm_and_bound(text or "none")
        values[name] = float(bound or "nan") if norm != "linf" else float(Radius(bound))
    return values


def _needs_of_record(identity: Mapping[str, Any]) -> dict[str, str]:
    defense = identity["defense"]
    parts = defense.get("options", {}).get("parts") or [defense]
    return _needs(
        identity["poison"]["attack"]["name"],
        [_leak(part) or _declared("defenses", part["name"]) for part in parts],
        pretrained=bool(identity.get("learner", {}).get("pretrained")),
    )


def _needs_of_labels(labels: Mapping[str, Any]) -> dict[str, str]:
    attack = str(labels.get("attack")).partition("[")[0]
    parts = outside_brackets(str(labels.get("defense")), "+")
    return _needs(
        "clean" if attack == "remainder" else attack,
        [_declared("defenses", part.partition("[")[0]) for part in parts],
        pretrained="pretrained=" in str(labels.get("learner")),
    )


def _needs(attack: str, defenses: Sequence[str], *, pretrained: bool) -> dict[str, str]:
    """Return what a cell's attack declares to need, what its defenses and its learner need."""
    found = dict.fromkeys(defenses)
    several = [need for need in found if len(found) == 1 or need not in ("", "nothing")]
    return {
        "attack_needs": _declared("attacks", attack),
        "defense_needs": "+".join(several),
        "learner_needs": "pretrained weights" if pretrained else "nothing",
    }


def _leak(defense: Mapping[str, Any]) -> str:
    """Return what the user says that images purified elsewhere took; empty for other defenses."""
    leak = str(defense.get("options", {}).get("leak")).replace("-", " ")
    return leak if leak in get_args(Need) else ""


@cache
def _declared(kind: str, name: str) -> str:
    try:
        return registry.REGISTRIES[kind].needs(name)
    except UserError:  # not installed here, or unusable
        return ""


def _with_robustness(row: dict[str, Any], found: Mapping[Any, Robustness]) -> dict[str, Any]:
    """Add the robustness of its poison to a cell of adversarial training without a defense.

    Args:
        row: the cell.
        found: key of the reference network to the measurement. It has the radius and the schedule
            of the cell, because cells of several presets can share a poison.
    """
    if not found or row["status"] != "done" or row["defense"] != "none":
        return row
    identity, rho_a = json.loads(row["setting"]), Radius(row["rho_a"])
    if not rho_a or "training" not in identity:
        return row
    reference = network_key(identity["poison"], identity["training"], rho_a, seed=0)
    if reference not in found:
        return row
    values = {name: getattr(found[reference], name) for name in ROBUSTNESS}
    return row | values | {"reference": reference}


def _unfinished(
    key: str, labels: dict[str, Any], failure: dict[str, Any] | None, path: Path
) -> dict[str, Any]:
    """Return the row of a cell without a record; pandas makes missing columns NaN."""
    return {
        "key": key,
        "folder": str(path),
        "checksum": True,
        "status": "failed" if failure else "missing",
        "reason": failure["reason"] if failure else "",
        **{name: labels.get(name) for name in LABELS},
        "noise_seed": labels.get("noise_seed", labels.get("seed")),
        **_needs_of_labels(labels),
        **_radius_values(labels.get("rho_a"), labels.get("rho_u")),
        "created": failure["created"] if failure else "",
        "setting": "",
    }


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the garbage collector, which would scan millions of new objects in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def select(frame: pd.DataFrame, **wanted: Sequence[str]) -> pd.DataFrame:
    """Return the rows whose columns have one of the wanted values, in the wanted order.

    `sem` selects `sem[steps=500]` as well; `sem[steps=500]` selects only itself. Radii are compared
    by value.

    Args:
        frame: from `load_records`.
        wanted: column to values; a column without values is ignored.

    Raises:
        UserError: a value that no record has; the message lists the existing ones.
    """
    for column, values in wanted.items():
        if not values or frame.empty:
            continue
        found = [str(value) for value in frame[column]]
        places = {text: _places(column, text, list(values)) for text in set(found)}
        for number, value in enumerate(values):
            if all(number not in place for place in places.values()):
                raise unknown(column.replace("_", "-"), value, set(found))
        first = [min(places[text], default=-1) for text in found]
        rows = [row for row, number in enumerate(first) if number >= 0]
        # By position, because joined frames repeat their index.
        frame = frame.iloc[rows if column in _SEEDS else sorted(rows, key=first.__getitem__)]
    return frame


def _places(column: str, text: str, values: list[str]) -> list[int]:
    """Return the indices of the wanted values that a text matches."""
    return [k for k, value in enumerate(values) if _matches(column, value, text)]


def _matches(column: str, value: str, text: str) -> bool:
    if value == text or (column in _LABELLED and value == text.partition("[")[0]):
        return True
    if column not in ("rho_a", "rho_u"):
        return False
    try:
        return Radius(value) == Radius(text)
    except UserError:
        return False


_LABELLED = ("dataset", "attack", "learner", "defense", "preset")
