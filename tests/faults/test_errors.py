"""File operations that the system refuses: a full disk, a quota, a broken disk, too many files."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.injection import failing, operations
from faults.world import Tally, World, elsewhere, sample

# Error, the operations that it concerns, and how many of them. Every other fault lasts until the
# process ends.
SWEEPS = [
    ("ENOSPC", "growth", 16),
    ("EDQUOT", "growth", 8),
    ("EIO", "all", 20),
    ("EMFILE", "opens", 12),
]


@pytest.mark.parametrize(("name", "kinds", "count"), SWEEPS)
def test_a_file_operation_that_fails_loses_nothing(
    name: str, kinds: str, count: int, tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived(name, elsewhere(sweep, place, getattr(errno, name), kinds, count))


def sweep(place: Path, code: int, kinds: str, count: int) -> Tally:
    world, tally = World(place, "run"), Tally()
    for index, number in enumerate(sample(operations(world, kinds), count, code)):
        kept, lasting = index % 4 < 2, index % 2 == 0
        world.clear(kept=kept)
        done = world.attempt(failing(place, number, code, kinds, lasting=lasting))
        wrong = [*world.disturbed(done, kept=kept), *world.repeated(done, kept=kept)]
        name = f"{errno.errorcode[code]}{' lasting' if lasting else ''}"
        tally.add(f"{name} at operation {number}: {done.text.strip()[-300:]!r}", wrong)
    return tally
