"""How long the rest of a plan takes on a card that was measured, or by the passes of its work."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch

from unlearnable_bench.contract import Learner
from unlearnable_bench.harness.operations import forward_operations
from unlearnable_bench.planning.card import Card
from unlearnable_bench.planning.cost import Portion
from unlearnable_bench.running.trial import trial_seconds
from unlearnable_bench.screen.terminal import duration


@dataclass(frozen=True)
class Forecast:
    """Estimated time of the work of a plan on one device.

    Attributes:
        device: name of the device.
        source: what the time of a pass was taken from.
        seconds: seconds by kind of work, of what can be estimated.
        passes: number of passes of single images, of what reports them.
        scaled: networks whose time was scaled by their operations.
        uncounted: work whose time is not included.
    """

    device: str
    source: str
    seconds: Mapping[str, float]
    passes: float
    scaled: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Seconds of all that can be estimated."""
        return sum(self.seconds.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the work could be estimated."""
        return bool(self.uncounted) and not any(self.seconds.values())

    def as_json(self) -> dict[str, Any]:
        """Return the fields, and the total in seconds and hours; None: no estimate."""
        total = None if self.is_empty else self.total
        hours = None if total is None else total / 3600
        return asdict(self) | {"total_seconds": total, "total_hours": hours}

    def __str__(self) -> str:
        if self.is_empty:
            left_out = ", ".join(self.uncounted)
            return f"none for {self.device}: {self.source} has no measurement of {left_out}"
        parts = ", ".join(f"{kind} {duration(s)}" for kind, s in self.seconds.items() if s)
        of = f": {parts}" if len([s for s in self.seconds.values() if s]) > 1 else ""
        gpu = "" if self.device.startswith("CPU") else f" ({self.total / 3600:.2g} GPU hours)"
        text = f"about {duration(self.total)}{gpu} on {self.device} by {self.source}{of}"
        return f"{text}; {rest_of(self)}" if rest_of(self) else text


def rest_of(forecast: Forecast) -> str:
    """Return what a reader must know about a forecast besides its figure."""
    notes = []
    if forecast.scaled:
        notes.append(f"scaled by operations, so rough: {', '.join(forecast.scaled)}")
    if forecast.uncounted:
        notes.append(f"not included: {', '.join(forecast.uncounted)}")
    return "; ".join(notes)


def passes_of(works: Collection[Portion]) -> float:
    """Return the passes of all work that reports them."""
    return sum(work.passes or 0.0 for work in works)


def on_card(works: Sequence[Portion], card: Card, source: str, pack: int) -> Forecast:
    """Estimate the time on a card that `ubench bench` has measured.

    Args:
        works: what is left to do.
        card: the measurements.
        source: name of their file.
        pack: number of cells that are trained at the same time.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    scaled: dict[str, None] = {}
    left_out: dict[str, None] = {}
    for work in works:
        found = card.seconds(work, pack, _operations)
        if found is None:
            precision = f" in {work.precision}" if work.precision != card.precision else ""
            left_out[f"{_named(work)}{precision if work.learner else ''}"] = None
            continue
        seconds[work.kind] += found
        if not card.covers(work) and work.learner:
            scaled[f"{work.learner.label}, {work.size} px"] = None
    left_out |= dict.fromkeys(_defenses(works))
    return Forecast(
        card.name, source, dict(seconds), passes_of(works), tuple(scaled), tuple(left_out)
    )


def by_passes(
    works: Sequence[Portion],
    device: torch.device,
    name: str,
    seconds_per_pass: float,
    *,
    trial: bool,
) -> Forecast:
    """Estimate the time from that of one pass on this device.

    Args:
        works: what is left to do.
        device: this device.
        name: name of the device.
        seconds_per_pass: time of a pass of one image of the first learner.
        trial: try methods without a network on a few images.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    left_out: dict[str, None] = {}
    for work in works:
        found = None if work.passes is None else work.passes * seconds_per_pass
        if work.is_timeless and work.poison and not work.learner and trial:
            found = trial_seconds(work.poison, device)
        if found is None:
            left_out[_named(work)] = None
        else:
            seconds[work.kind] += found
    left_out |= dict.fromkeys(_defenses(works))
    uncounted = tuple(left_out)
    return Forecast(name, "a step timed here", dict(seconds), passes_of(works), uncounted=uncounted)


def _named(work: Portion) -> str:
    return f"noise of {work.name}" if work.kind == "noise" else f"{work.kind} of {work.name}"


def _defenses(works: Collection[Portion]) -> list[str]:
    return [f"own work of {work.defense}" for work in works if work.defense]


# Learners are frozen dataclasses; equal ones have equal networks.
_operations: Callable[[Learner, int], float] = cache(forward_operations)
