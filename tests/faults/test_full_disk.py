"""A disk that fills: room is made, and the same command is run again."""

import ctypes
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.world import ALL, Tally, World, elsewhere, sample

_LARGEST = 20_000  # bytes: larger than every file of the command
_WHOLE = 160  # KiB: larger than all of them
_NEW_MOUNTS, _NEW_USER, _REMOUNT, _PRIVATE = 0x20000, 0x10000000, 32, (1 << 18) | (1 << 14)


def test_a_limit_of_the_size_of_a_file_loses_nothing(
    tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived("RLIMIT_FSIZE", elsewhere(limits, place))


def test_a_file_system_that_fills_loses_nothing(
    tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    tally = elsewhere(fill, place)
    if tally is None:
        pytest.skip("this user may not mount a tmpfs")
    survived("tmpfs", tally)


def limits(place: Path) -> Tally:
    world, tally = World(place, "run"), Tally()
    assert max(path.stat().st_size for path in Path("out").rglob("*")) < _LARGEST
    for index, size in enumerate(range(0, _LARGEST, 100 if ALL else 2000)):
        kept = index % 2 == 0
        world.clear(kept=kept)
        done = world.attempt(
            lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        )
        wrong = [*world.disturbed(done, kept=kept), *world.repeated(done, kept=kept)]
        tally.add(f"files of at most {size} bytes: {done.text.strip()[-300:]!r}", wrong)
    return tally


def fill(place: Path) -> Tally | None:
    """Run the command with `out` on a file system of a few KiB, then on one that grew."""
    world, tally = World(place, "run"), Tally()
    system = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if not hasattr(system, "unshare"):  # not Linux
        return None
    if system.unshare(_NEW_MOUNTS) and system.unshare(_NEW_MOUNTS | _NEW_USER):
        return None
    if os.getuid() != user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    # What is mounted here is seen by this process and its children only.
    if system.mount(b"none", b"/", None, _PRIVATE, None):
        return None
    for size in sample(_WHOLE // 4, 10):
        world.clear(kept=False)
        Path("out").mkdir()
        if system.mount(b"tmpfs", b"out", b"tmpfs", 0, f"size={4 * size + 4}k".encode()):
            return None
        done = world.attempt()
        wrong = [*world.disturbed(done, kept=False)]
        if system.mount(b"tmpfs", b"out", b"tmpfs", _REMOUNT, f"size={4 * _WHOLE}k".encode()):
            raise OSError(ctypes.get_errno(), "remount")
        wrong += world.repeated(done, kept=False)
        tally.add(f"a disk of {4 * size + 4} KiB: {done.text.strip()[-300:]!r}", wrong)
        assert not system.umount(b"out")
    return tally
