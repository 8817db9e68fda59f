"""A process that a signal ends before any of its file operations."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.injection import killing, operations
from faults.world import Tally, World, elsewhere, sample

# Signal, command, number of operations of about 330 and 800, and the seed that chooses them.
SWEEPS = [
    ("SIGKILL", "run", 16, 0),
    ("SIGKILL", "run", 16, 1),
    ("SIGKILL", "correlate", 12, 0),
    ("SIGTERM", "run", 10, 2),
    ("SIGINT", "run", 16, 3),
    ("SIGINT", "correlate", 6, 1),
]


@pytest.mark.parametrize(("name", "command", "count", "seed"), SWEEPS)
def test_a_signal_at_a_file_operation_loses_nothing(
    name: str, command: str, count: int, seed: int,
    tmp_path: Path, survived: Callable[[str, Tally], None],
) -> None:  # fmt: skip
    place = tmp_path / "world"
    place.mkdir()
    survived(name, elsewhere(sweep, place, command, signal.Signals[name], count, seed))


def sweep(place: Path, command: str, which: signal.Signals, count: int, seed: int) -> Tally:
    world, tally = World(place, command), Tally()
    for index, number in enumerate(sample(operations(world, "changes"), count, seed)):
        kept = index % 2 == 0
        world.clear(kept=kept)
        done = world.attempt(killing(place, number, which))
        wrong = [*world.disturbed(done, kept=kept)]
        if done.code == 0:
            wrong.append("the signal was ignored")
        if which == signal.SIGKILL and done.code != -which:
            wrong.append(f"ended with {done.code}")
        wrong += world.repeated(done, kept=kept)
        tally.add(f"{which.name} at operation {number} of {command}", wrong)
    return tally
