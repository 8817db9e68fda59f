"""Damaged files in a finished folder, and the commands that need them again."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.injection import halfway
from faults.world import ALL, Tally, World, elsewhere

Damage = Callable[[Path, random.Random], None]


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        pattern: where they are.
        removed: what is removed so that the command reads them again.
    """

    pattern: str
    removed: tuple[str, ...] = ()


_CELLS = ("cells/*.json", "robustness/*.json")
_NOISE = (*_CELLS, "poisons/*.safetensors")
_NETWORKS = f"out/networks/{32 * '?'}.safetensors"
KINDS = {
    "run": {
        "record": Kind("out/cells/*.json"),
        "plan": Kind("out/plans/*.json"),
        "poison": Kind("out/poisons/*.safetensors", _CELLS),
        "strip": Kind("out/strips/*.safetensors", _CELLS),
        "noise": Kind("out/noise/*.safetensors", _CELLS),
        "network": Kind(_NETWORKS, _NOISE),
        "state at an update": Kind("out/networks/*-1.safetensors", _NOISE),
        "decoded pictures": Kind("home/imagenet-subset-*/*"),
        "checkpoint": Kind("halfway"),
    },
    "correlate": {
        "measurement": Kind("out/robustness/*.json"),
        "network": Kind(_NETWORKS, _CELLS),
    },
}


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    bit = draw.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def _empty(path: Path, _draw: random.Random) -> None:
    path.write_bytes(b"")


def _folder(path: Path, _draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, _draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(Path("thesis.tex").absolute())


def _loop(path: Path, _draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _broken_link(path: Path, _draw: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _pipe(path: Path, _draw: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _swapped(path: Path, draw: random.Random) -> None:
    """Give it the content of another file of its kind, or of none."""
    others = [p for p in sorted(path.parent.iterdir()) if p.suffix == path.suffix and p != path]
    path.write_bytes(draw.choice(others).read_bytes() if others else b"{}")


DAMAGES: tuple[Damage, ...] = (
    _flip, _cut, _empty, _folder, _link, _loop, _broken_link, _pipe, _swapped,
)  # fmt: skip


@pytest.mark.parametrize("command", KINDS)
def test_a_damaged_file_is_made_again_or_named(
    command: str, tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived("damaged files", elsewhere(damage_files, place, command))


def damage_files(place: Path, command: str) -> Tally:
    world, tally, draw = World(place, command), Tally(), random.Random(0)
    if command == "run":
        halfway(world)
        shutil.copytree("out", "halfway", symlinks=True)
    for index, (name, kind) in enumerate(KINDS[command].items()):
        # All damages, or half of them: the other half of the next kind.
        for damage in DAMAGES if ALL else DAMAGES[index % 2 :: 2]:
            _prepare(world, kind)
            checkpoint = kind.pattern == "halfway"
            pattern = "out/work/*.safetensors" if checkpoint else kind.pattern
            path = draw.choice(sorted(Path().glob(pattern)))
            damage(path, draw)
            tally.add(f"{name} {damage.__name__} {path}", [*_wrong(world)])
    return tally


def _prepare(world: World, kind: Kind) -> None:
    world.restore()
    if kind.pattern == "halfway":
        shutil.rmtree("out")
        shutil.copytree("halfway", "out", symlinks=True)
    for pattern in kind.removed:
        for path in Path("out").glob(pattern):
            path.unlink()


def _wrong(world: World) -> Iterator[str]:
    """Yield what is wrong with a report, with the command, and with the command again."""
    report = world.attempt(command=("report", "out"))
    if report.code not in (0, 2) or "Traceback" in report.text:
        yield f"the report ends with {report.code}: {report.text[-1000:]}"
    done = world.attempt()
    if done.code not in (0, 2) or "Traceback" in done.text:
        yield f"ends with {done.code}: {done.text[-1000:]}"
    if done.tables != world.tables:
        yield f"prints other tables: {done.text[-1000:]}"
    if done.code == 2 and " is damaged (" not in done.text:
        yield f"does not say what is damaged: {done.text[-1000:]}"
    again = world.attempt()
    if (again.code, again.tables) != (0, world.tables):
        yield f"the next run ends with {again.code}: {again.text[-1000:]}"
    yield from world.settled(kept=True, damaged=True)
