"""File operations that the system refuses: a full disk, a quota, a broken disk, too many files."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.injection import failing, operations
from faults.world import Tally, World, elsewhere, sample

# Errors, the operations that they concern, and at how many of them. Every other fault lasts until
# the process ends.
SWEEPS = [
    {"ENOSPC": ("growth", 14), "EDQUOT": ("growth", 4)},
    {"EIO": ("all", 14), "EMFILE": ("opens", 10)},
]


@pytest.mark.parametrize("errors", SWEEPS)
def test_a_file_operation_that_fails_loses_nothing(
    errors: dict[str, tuple[str, int]], tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived(" ".join(errors), elsewhere(sweep, place, errors))


def sweep(place: Path, errors: dict[str, tuple[str, int]]) -> Tally:
    world, tally = World(place, "run"), Tally()
    for name, (kinds, count) in errors.items():
        for index, number in enumerate(sample(operations(world, kinds), count, count)):
            kept, lasting = index % 4 < 2, index % 2 == 0
            world.clear(kept=kept)
            code = getattr(errno, name)
            done = world.attempt(failing(place, number, code, kinds, lasting=lasting))
            wrong = [*world.disturbed(done, kept=kept), *world.repeated(done, kept=kept)]
            what = f"{name}{' from' if lasting else ' at'} operation {number} {'on' * lasting}"
            tally.add(f"{what}: {done.text.strip()[-300:]!r}", wrong)
    return tally
