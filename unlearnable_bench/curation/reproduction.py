"""A cell computed again elsewhere, and compared with its record."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unlearnable_bench import api
from unlearnable_bench.curation.contents import files, find
from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.identity import as_json
from unlearnable_bench.images import Data
from unlearnable_bench.planning import plan_file, registry
from unlearnable_bench.planning.grid import load_data, make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.results.command import recipe_of
from unlearnable_bench.results.frame import LABELS
from unlearnable_bench.results.names import outside_brackets
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.store import ResultsFolder

# Packages that compute; the others read, write or draw.
_COMPUTING = ("torch", "torchvision", "numpy", "scikit-learn", "scipy", "opencv-python-headless")


@dataclass(frozen=True)
class Comparison:
    """A record and the one that was computed again.

    Attributes:
        key: key of the cell.
        same_kind: whether device and versions are equal.
        exact: whether results must be identical: the same kind of machine, and a CPU. On a GPU the
            compiler may choose other kernels for the same sums in another process.
        differing: what differs between the machines, as `name: recorded, here`.
        same_noise: whether all pixels of the poison are equal.
        recorded: test accuracy in percent in the record.
        again: test accuracy in percent here.
        identical: whether noise and the accuracy of every epoch are equal.
        tolerance: points by which accuracy may differ where results need not be identical.
    """

    key: str
    same_kind: bool
    exact: bool
    differing: tuple[str, ...]
    same_noise: bool
    recorded: float
    again: float
    identical: bool
    tolerance: float

    @property
    def is_reproduced(self) -> bool:
        """Whether it is identical or, where it need not be, within the tolerance."""
        near = abs(self.again - self.recorded) <= self.tolerance
        return self.identical or (near and not self.exact)

    def as_json(self) -> dict[str, Any]:
        """Return the fields, and the verdict, in JSON's types."""
        return asdict(self) | {"reproduced": self.is_reproduced}


def recorded(path: Path, key: str) -> Record:
    """Return the record of a key or of its first digits.

    Raises:
        UserError: there is no such record, or it is damaged.
    """
    folder = ResultsFolder(path)
    record = folder.record(find(folder, key, ("cells",)).stem)
    assert record is not None  # it was found
    return record


def data_of(record: Record, settings: Mapping[str, str] = {}) -> Data:
    """Load the data set that a record names, with the options in its brackets.

    Args:
        record: the record.
        settings: options of the data set that replace the record's, as `{"shapes.test": "100"}`.

    Raises:
        UserError: a data set of the user's own, whose path no record has.
    """
    name, _, inside = record.dataset.partition("[")
    names = registry.datasets.names()
    if name not in names or registry.datasets.takes_path(name):
        raise UserError(
            f"cell {record.key} is of {record.dataset}, which is no data set with a name; give it "
            "as --dataset, such as npz:FILE or folder:FOLDER"
        )
    parts = outside_brackets(inside.removesuffix("]"), ",") if inside else []
    options = dict(part.split("=", 1) for part in parts)
    return load_data(
        name, {f"{name}.{key}": value for key, value in options.items()} | {**settings}
    )


def exported(path: Path, key: str) -> tuple[Record, bool]:
    """Return the record of a cell, or of one that was trained on a poison, by key or first digits.

    Args:
        path: the results folder.
        key: key of a cell or of a poison, or its first digits. Not every poison is stored, so those
            that records name are searched.

    Returns:
        The record, and whether the key is that of its poison.

    Raises:
        UserError: no record has it, several do, or it is damaged.
    """
    folder = ResultsFolder(path)
    records = list(folder.sound_records())
    # The simplest cell of a poison: a defense may need a file of its own.
    records.sort(key=lambda one: (one.defense == "none", one.protect))
    poisons = {one.poison["key"]: one for one in records if one.poison["key"].startswith(key)}
    cells = [one.key for one in records if one.key.startswith(key)]
    if len(poisons) == 1 and not cells:
        return next(iter(poisons.values())), True
    if len(poisons) + len(cells) > 1:
        few = ", ".join(sorted([*cells, *poisons])[:_SHOWN])
        count = len(poisons) + len(cells)
        raise UserError(f"{key!r} is the beginning of {count} keys: {few}; give more of its digits")
    kinds = ("cells", "poisons")
    if not any(one.stem.startswith(key) for _, one in files(path, kinds)):
        raise UserError(
            f"no poison or cell has the key {key!r}; ubench status {path} lists the keys of "
            "poisons, and with --json those of cells"
        )
    found = find(folder, key, kinds)
    if found.parent.name == "poisons":
        raise UserError(
            f"no cell was finished on the poison {found.stem}, so its data and options are not "
            f"recorded; finish one (ubench status {path} prints the command of each plan)"
        )
    return recorded(path, key), False


def plan_of(
    record: Record,
    given: Mapping[str, str | None] = {},
    plugins: Sequence[Path] = (),
) -> Plan:
    """Return a plan of exactly the cell of a record.

    Args:
        record: the record.
        given: options of `ubench run` that replace the record's, such as the path of data.
        plugins: files of plugins, whose paths no record has; loaded already.

    Raises:
        UserError: a path that is not recorded, or a cell that cannot be made here, and why.
    """
    labels = {name: getattr(record, name) for name in LABELS} | {"rho_u": str(record.rho_u)}
    recipe = recipe_of(labels | {"setting": record.setting})
    options = _options(shlex.split(recipe.command)[2:])
    options |= {name: value for name, value in given.items() if value}
    unnamed = [name for name in ("dataset", "methods") if options[name].endswith(":PATH")]
    needs_plugin = options.pop("plugin", None) and not plugins
    if unnamed or needs_plugin:
        flags = [f"--{name} {options[name]}" for name in unnamed]
        flags += ["--plugin FILE"] if needs_plugin else []
        raise UserError(f"give {', '.join(flags)}: {' '.join(recipe.notes)}")
    seeds = {"seeds": str(record.seed)}
    if record.noise_seed is not None:
        seeds["noise-seeds"] = str(record.noise_seed)
    arguments = plan_file.arguments(options | seeds, "--")
    plan = make_plan(**arguments)
    cells = [cell for cell in plan.cells if cell.key == record.key]
    if not cells:
        found = [as_json(cell.identity) for cell in plan.cells]
        lines = list(_differences(record.identity, found[0]))[:_SHOWN] if found else []
        raise UserError(
            f"this version makes another cell of {record.key}: {'; '.join(lines)}; install the "
            f"version of the record ({_version(record)}) or give the same files"
        )
    return replace(plan, cells=tuple(cells))


_SHOWN = 5  # differences that a message names


def _options(words: Sequence[str]) -> dict[str, Any]:
    """Return options of `ubench run` as a plan file has them."""
    options: dict[str, Any] = {"set": {}}
    rest = iter(words)
    for word in rest:
        if word == "--no-clean":
            options["clean"] = False
        elif word == "--set":
            name, _, value = next(rest).partition("=")
            options["set"][name] = value
        else:
            options[word.removeprefix("--")] = next(rest)
    return options


def _differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Yield where two identities differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() | other.keys():
            inside = f"{place}.{name}" if place else str(name)
            yield from _differences(one.get(name), other.get(name), inside)
    elif one != other:
        yield f"{place} is {one!r} in the record, {other!r} here"


def _version(record: Record) -> str:
    found = record.environment.get("packages", {}).get("unlearnable-bench")
    return f"unlearnable-bench {found}, git {record.environment.get('git')}"


def compute(
    plan: Plan, out: Path, device: torch.device, progress: Progress | None, threads: int | None
) -> Record:
    """Compute the cell of a plan in another results folder, and return its record.

    Raises:
        UserError: the folder has the cell already, or the cell failed.
    """
    (cell,) = plan.cells
    folder = ResultsFolder(out, create=True)
    if folder.record(cell.key) is not None:
        raise UserError(
            f"{out} has the cell {cell.key} already, so nothing would be computed again; give "
            "another --out"
        )
    summary = api.run(plan, out, device=device, progress=progress, threads=threads, pack=1)
    record = folder.record(cell.key)
    if record is None:
        reasons: Collection[str] = [failure.reason for failure in summary.failures]
        raise UserError(f"{cell.name} failed here: {'; '.join(reasons)}")
    return record


def compare(record: Record, again: Record, tolerance: float) -> Comparison:
    """Compare a record with the one that was computed again.

    Args:
        record: the record.
        again: of the same cell.
        tolerance: points by which accuracy may differ where results need not be identical.
    """
    differing = tuple(_machine_differences(record.environment, again.environment))
    made_in = record.poison.get("environment")
    if made_in and made_in.get("device") != again.environment["device"] and not differing:
        differing = (
            f"device of the noise: {made_in.get('device')}, {again.environment['device']}",
        )
    same_noise = record.poison["sha256"] == again.poison["sha256"]
    ours, theirs = (
        (one.test_accuracy, one.epoch_accuracy, one.train_accuracy) for one in (record, again)
    )
    return Comparison(
        key=record.key,
        same_kind=not differing,
        exact=not differing and again.environment["device"].startswith("CPU"),
        differing=differing,
        same_noise=same_noise,
        recorded=record.test_accuracy,
        again=again.test_accuracy,
        identical=same_noise and ours == theirs,
        tolerance=tolerance,
    )


def _machine_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    pairs = {name: (one.get(name), other.get(name)) for name in ("device", "cuda", "cudnn")}
    if str(one.get("device", "")).startswith("CPU"):
        pairs["threads"] = one.get("threads"), other.get("threads")
    ours, theirs = one.get("packages", {}), other.get("packages", {})
    pairs |= {name: (ours.get(name), theirs.get(name)) for name in _COMPUTING if name in ours}
    for name, (recorded_value, here) in pairs.items():
        if recorded_value != here:
            yield f"{name}: {recorded_value}, {here}"
