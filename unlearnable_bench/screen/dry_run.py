"""What a plan costs before it runs, for the printed plan and as JSON."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unlearnable_bench.planning.card import Card
from unlearnable_bench.planning.cost import Portion, work_of
from unlearnable_bench.planning.plan import Cell, Plan, Probe
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.executor import fastest_pack
from unlearnable_bench.running.finished import is_done
from unlearnable_bench.screen.estimate import check_learners, measured
from unlearnable_bench.screen.forecast import Forecast, on_card, passes_of


@dataclass(frozen=True)
class Left:
    """What is left to do of a plan.

    Attributes:
        done: number of finished cells and probes.
        items: the cells and probes to compute.
        works: their work.
        has_noise: returns whether the noise with a key is stored.
    """

    done: int
    items: list[Cell | Probe]
    works: list[Portion]
    has_noise: Callable[[str], bool]


def work_left(plan: Plan, folder: Path, only: Collection[str] | None = None) -> Left:
    """Return what is left to do of a plan.

    Args:
        plan: the plan.
        folder: the results folder, which need not exist.
        only: keys of the cells to compute; None: all.

    Raises:
        UserError: the folder is something else.
    """
    known = ResultsFolder.if_made(folder)
    missing = [item for item in plan.work if not (known and is_done(known, item))]
    items = [item for item in missing if only is None or item.key in only]

    def has_noise(key: str) -> bool:
        return known is not None and known.has_poison(key)

    def is_stored(key: str) -> bool:
        return has_noise(key) or (known is not None and known.network(key).exists())

    done = len(plan.work) - len(missing)
    return Left(done, items, work_of(plan, items, is_stored), has_noise)


def on_cards(works: Sequence[Portion], benches: Sequence[Path], pack: int | None) -> list[Forecast]:
    """Estimate the time of work on the device of each file of `ubench bench --json`.

    Raises:
        UserError: another file.
    """
    found = []
    for path in benches:
        card = Card.read(path)
        kind = "cuda" if card.precision == "bf16" else "cpu"
        found.append(on_card(works, card, str(path), pack or fastest_pack(kind)))
    return found


def as_json(
    plan: Plan,
    folder: Path,
    device: torch.device,
    benches: Sequence[Path],
    pack: int | None,
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return the size of a plan and the estimates of its time, in JSON's types.

    Args:
        plan: the plan.
        folder: the results folder, which need not exist.
        device: this device, whose speed is measured if there are no `benches`.
        benches: files of `ubench bench --json`.
        pack: number of cells at the same time; None: the device's default.
        only: keys of the cells to compute; None: all.
    """
    left = work_left(plan, folder, only)
    works = left.works
    estimates = on_cards(works, benches, pack)
    if works and not benches:
        check_learners(plan, device)
        estimates = [measured(plan, device, works, trial=True)[0]]
    counts = Counter((work.kind, work.name) for work in works)
    passes: defaultdict[tuple[str, str], float] = defaultdict(float)
    for work in works:
        passes[work.kind, work.name] += work.passes or 0.0
    return {
        "plan": plan.key,
        "dataset": plan.data.name,
        "preset": plan.preset_label,
        "results": str(folder),
        "cells": len(plan.cells),
        "measurements": len(plan.probes),
        "finished": left.done,
        "passes": passes_of(works),
        "work": [
            {"kind": kind, "name": name, "count": count, "passes": passes[kind, name]}
            for (kind, name), count in counts.items()
        ],
        "estimates": [estimate.as_json() for estimate in estimates],
    }
