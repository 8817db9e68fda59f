"""A process that a signal ends before any of its file operations."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.injection import killing, operations
from faults.world import Tally, World, elsewhere, sample

# Command, signals, and at how many of its about 330 and 800 operations.
SWEEPS = [
    ("run", {"SIGKILL": 24}),
    ("run", {"SIGTERM": 8, "SIGINT": 14}),
    ("correlate", {"SIGKILL": 8, "SIGINT": 4}),
]


@pytest.mark.parametrize(("command", "signals"), SWEEPS)
def test_a_signal_at_a_file_operation_loses_nothing(
    command: str,
    signals: dict[str, int],
    tmp_path: Path,
    survived: Callable[[str, Tally], None],
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived(" ".join(signals), elsewhere(sweep, place, command, signals))


def sweep(place: Path, command: str, signals: dict[str, int]) -> Tally:
    world, tally = World(place, command), Tally()
    total = operations(world, "changes")
    for name, count in signals.items():
        for index, number in enumerate(sample(total, count, count)):
            wrong = [*_wrong(world, signal.Signals[name], number, kept=index % 2 == 0)]
            tally.add(f"{name} at operation {number} of {command}", wrong)
    return tally


def _wrong(world: World, which: signal.Signals, number: int, *, kept: bool) -> Iterator[str]:
    world.clear(kept=kept)
    done = world.attempt(killing(world.folder, number, which))
    yield from world.disturbed(done, kept=kept)
    if done.code == 0:
        yield "the signal was ignored"
    if which == signal.SIGKILL and done.code != -which:
        yield f"ended with {done.code}"
    yield from world.repeated(done, kept=kept)
