"""What an executor gets: the plan, and a job from which worker processes make the same plan."""

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Protocol

import msgspec

from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.planning.plan import Cell, Plan, Probe
from unlearnable_bench.results.records import Record
from unlearnable_bench.results.robustness import Robustness
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.executor import Summary


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker process needs to compute cells of a run, as JSON.

    Attributes:
        id: identifies the run.
        out: absolute path of the results folder.
        folder: current folder of the command, to which paths of data are relative.
        options: options of the plan, as `plan_file.arguments` takes them.
        plugins: absolute paths of the files of `--plugin`.
        device: `cpu`, `cuda` or `cuda:1`; "": CUDA if available.
        pack: number of cells trained at the same time; None: the device's default.
        threads: number of threads on the CPU; None: the default.
        cells: keys of the missing cells, in the order in which they are taken.
        stall: time without a step after which a cell is ended, as text and in seconds; None: never.
        keep_learners: write trained learners to the results folder.
        shards: value of CUDA_VISIBLE_DEVICES of each process that divides noise generations among
            GPUs, this worker's first; empty: they are not divided. On the CPU the number counts.
    """

    id: str
    out: str
    folder: str
    options: dict[str, Any]
    plugins: list[str]
    device: str
    pack: int | None
    threads: int | None
    cells: list[str]
    stall: tuple[str, float] | None = None
    keep_learners: bool = False
    shards: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the job as one line."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Job":
        """Read a job.

        Raises:
            ValueError: the text is not a job.
        """
        return msgspec.json.decode(text, type=cls)


class Screen(Protocol):
    """Where an executor shows what happens."""

    @property
    def progress(self) -> Progress:
        """The display of loops, such as the steps of a training."""
        ...

    def say(self, text: str) -> None:
        """Print one line."""
        ...

    def warn(self, text: str) -> None:
        """Print one line on stderr."""
        ...

    def done(self, item: Cell | Probe, result: Record | Robustness) -> None:
        """Report a finished cell or probe."""
        ...


@dataclass(frozen=True)
class Work:
    """One run of a plan, for an executor.

    Attributes:
        plan: the plan.
        folder: the results folder, which all workers share.
        job: what worker processes need to compute its missing cells.
        screen: where the executor shows what happens.
        here: runs the plan in this process.
    """

    plan: Plan
    folder: ResultsFolder
    job: Job
    screen: Screen
    here: Callable[[], Summary]


def new_job_id() -> str:
    """Return an identifier for a run."""
    return secrets.token_hex(8)


def longest_first(
    items: Sequence[Cell | Probe], has_noise: Callable[[str], bool]
) -> list[Cell | Probe]:
    """Sort cells by their image passes, most first.

    The first cell of a noise that is missing includes the passes that make it.

    Args:
        items: cells and probes.
        has_noise: returns whether the noise with a key is stored.
    """
    own = {item.key: _passes(item) for item in items}
    makers: dict[str, Cell | Probe] = {}
    for item in sorted(items, key=lambda one: -own[one.key]):
        makers.setdefault(item.poison.key, item)
    for noise, item in makers.items():
        if not has_noise(noise):
            made = item.poison.attack.plugin.image_passes(len(item.poison.data.train))
            own[item.key] += inf if made is None else made
    return sorted(items, key=lambda one: -own[one.key])


def _passes(item: Cell | Probe) -> float:
    if isinstance(item, Probe):
        return item.image_passes()
    return item.training.image_passes(item.images, item.rho_a)


def items_of(plan: Plan, keys: Collection[str]) -> list[Cell | Probe]:
    """Return the cells and probes with these keys, in the order of the keys.

    Raises:
        KeyError: the plan lacks one.
    """
    found = {item.key: item for item in plan.work}
    return [found[key] for key in keys]


def absolute(path: Path) -> str:
    """Return an absolute path as text, without resolving links."""
    return str(Path.cwd() / path.expanduser())
