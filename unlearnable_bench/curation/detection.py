"""What `ubench detect` measures: the poisons of a results folder, and the tests of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unlearnable_bench.curation.reproduction import data_of, plan_of
from unlearnable_bench.curation.selection import keys_of
from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.images import Data
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.grid import load_data
from unlearnable_bench.planning.plan import Cell
from unlearnable_bench.planning.registry import Chosen
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.detection import SHIFT, TRAINING, Examined, Suspect, Test
from unlearnable_bench.schedule import Precision, Training

if TYPE_CHECKING:
    from unlearnable_bench.options import Setting

TESTS = ("linear", "two-layer", "bias-shift")
_TWO_LAYER = "mlp2"


@dataclass(frozen=True)
class Given:
    """What the user says about the tests and about what no record has.

    Attributes:
        tests: names of `TESTS`.
        learner: learner of the bias-shift test; None: that of the folder's first cell.
        seed: seed of the held-out images and of training.
        settings: options such as `{"training.epochs": "20"}`, of the schedule, a network of the
            tests, or the data set.
        dataset: the data set, such as `npz:FILE`; None: that which the records name.
        files: path by row of each poison that came from a file.
        plugins: files of plugins, loaded already.
    """

    tests: Sequence[str] = TESTS
    learner: str | None = None
    seed: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    dataset: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    plugins: Sequence[Path] = ()


def measurements_of(
    path: Path, selection: Mapping[str, Sequence[str]], given: Given
) -> list[Examined]:
    """Return the tests of each poison of a results folder, clean images first.

    Poisons with equal images are one. The images of cells that protect a share are those of the
    whole poison.

    Args:
        path: the results folder.
        selection: column to values, as `select` takes them.
        given: the tests.

    Raises:
        UserError: no such cells, other data than theirs, or a poison that cannot be made here.
    """
    for name in given.tests:
        if name not in TESTS:
            raise unknown("test", name, TESTS)
    folder = ResultsFolder(path)
    records = list(folder.sound_records(keys_of(path, selection)))
    if not records:
        raise UserError(f"{path} has no finished cell to take a poison of; run `ubench run` first")
    records.sort(key=lambda record: not _is_clean(record))
    data: dict[str, Data] = {}
    tests: dict[str, list[Test]] = {}
    seen: dict[tuple[str, str], Record] = {}
    for record in records:
        seen.setdefault((record.identity["poison"]["data"], record.poison["sha256"]), record)
    found = []
    for (digest, _), record in seen.items():
        if digest not in data:
            data[digest] = _data(record, given)
            first = next(r for r in records if r.identity["poison"]["data"] == digest)
            tests[digest] = list(_tests(first, given))
        suspect = _suspect(record, data[digest], folder, given)
        found += [Examined(suspect, test) for test in tests[digest]]
    return found


def _is_clean(record: Record) -> bool:
    return bool(record.identity["poison"]["attack"]["name"] == "clean")


def _data(record: Record, given: Given) -> Data:
    """Return the data set of a record.

    Raises:
        UserError: it is another one, or its path is not known.
    """
    rest = {name: text for name, text in given.settings.items() if not _is_ours(name)}
    data = load_data(given.dataset, rest) if given.dataset else data_of(record, rest)
    if data.sha256 != record.identity["poison"]["data"]:
        raise UserError(
            f"{data.name} is not the data of cell {record.key} ({record.dataset}); give that with "
            "--dataset and --set, or select cells by --datasets"
        )
    return data


def _is_ours(name: str) -> bool:
    """Return whether a setting is that of a schedule or a network, and not of the data set."""
    section = name.partition(".")[0]
    return section == "training" or section in registry.learners.names()


def _tests(first: Record, given: Given) -> Iterator[Test]:
    """Yield the tests of the poisons of a data set, whose first record may name the learner."""
    sections: dict[str, dict[str, Setting]] = {}
    for name, text in given.settings.items():
        if _is_ours(name):
            section, _, option = name.partition(".")
            sections.setdefault(section, {})[option] = text
    usual = TRAINING.option_values()
    changed = sections.pop("training", {})
    training = Training.configured(usual | changed, owner="training")
    values = training.option_values()
    options = {name: values[name] for name in changed if values[name] != usual[name]}
    if given.seed:
        options["seed"] = given.seed
    common: dict[str, Any] = {"training": training, "seed": given.seed}
    used = set()
    if "linear" in given.tests:
        yield Test(_named("linear", options), _choose("linear", sections), **common)
    if "two-layer" in given.tests:
        learner = _choose(_TWO_LAYER, sections)
        used.add(_TWO_LAYER)
        name = _named("two-layer", {**options, **learner.passed})
        yield Test(name, learner, augmented=True, **common)
    if "bias-shift" in given.tests:
        about = first.identity["learner"]
        shifted, known = (given.learner, {}) if given.learner else (about["name"], about["options"])
        learner = _choose(shifted, {shifted: {**known, **sections.get(shifted, {})}})
        used.add(shifted)
        precision = cast("Precision", first.identity["precision"])
        for shift in (-SHIFT, SHIFT):
            name = _named(f"shift {shift:+g} {shifted}", {**options, **learner.passed})
            yield Test(name, learner, precision=precision, shift=shift, **common)
    for section in sections.keys() - used:
        option = next(iter(sections[section]))
        raise UserError(
            f"--set {section}.{option}: no test trains {section}; allowed here: "
            f"{', '.join(sorted(used | {'training'}))} and the data set"
        )


def _choose(name: str, sections: Mapping[str, Mapping[str, Any]]) -> Chosen[Any]:
    return registry.learners.choose(name, sections.get(name, {}))


def _named(name: str, options: Mapping[str, Any]) -> str:
    """Return a test's name with the options that differ in brackets, as labels of methods have."""
    text = ",".join(f"{option}={value}" for option, value in sorted(options.items()))
    return f"{name}[{text}]" if text else name


def _suspect(record: Record, data: Data, folder: ResultsFolder, given: Given) -> Suspect:
    """Return the images of a record's poison, or how they are made again."""
    poison = record.poison["key"]
    seed = record.seed if record.noise_seed is None else record.noise_seed
    is_clean = _is_clean(record)
    name = "clean" if is_clean else f"{record.attack}, seed {seed}"
    there = is_clean or folder.has_poison(poison)
    cell = None if there else _cell(record, data, given)
    return Suspect(name, record.poison["sha256"], poison, data, cell)


def _cell(record: Record, data: Data, given: Given) -> Cell:
    """Return the cell of a record, by which its poison, of which no file is kept, is made again.

    Raises:
        UserError: its path or its plugin is not given, or this version makes another one.
    """
    row = record.attack.partition("[")[0]
    attack = record.identity["poison"]["attack"]
    from_file = attack["name"] == "file"
    if from_file and row not in given.files:
        raise UserError(
            f"the poison of {row} came from a file, whose path no record has; give --file "
            f"{row}=PATH, or leave it out by --methods"
        )
    method = f"{row}=file:{given.files[row]}" if from_file else None
    plan = plan_of(record, {"dataset": given.dataset, "methods": method}, given.plugins)
    (cell,) = plan.cells
    return replace(cell, poison=replace(cell.poison, data=data))
