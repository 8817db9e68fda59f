"""Damage of stored bytes, in the functions that read them: noticed, or without effect."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from faults.injection import halfway
from faults.world import ALL, Tally, World, elsewhere
from unlearnable_bench import UserError
from unlearnable_bench.datasets.imagenet_subset import ImageNetSubset
from unlearnable_bench.datasets.npz import read_npz, write_npz
from unlearnable_bench.harness.checkpoint import Checkpoint
from unlearnable_bench.harness.weights import read_tensors
from unlearnable_bench.images import Data
from unlearnable_bench.results.robustness import MEASURED_ROBUSTNESS
from unlearnable_bench.results.samples import read_noise, read_strip
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.storage.damage import collected

OUT = Path("out")
Reader = Callable[[Path], Any]


def test_damaged_bytes_are_noticed_or_without_effect(
    tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived("bytes read", elsewhere(damage_all, place))


def damage_all(place: Path) -> Tally:
    world, tally = World(place, "correlate"), Tally()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # each decoding of pictures says so
    halfway(world)
    shutil.copytree("out/work", "states")
    world.restore()
    for path in Path("states").glob("*.safetensors"):
        shutil.copy(path, "out/work")
    ResultsFolder(OUT).write_failure("0" * 32, {"attack": "sem"}, "too warm", "Traceback ...")
    write_npz(_data(), Path("home/cifar10.npz"))
    for kind, (pattern, read) in READERS.items():
        paths = sorted(Path().glob(pattern))
        assert paths, kind
        _damage(kind, paths[0], read, tally)
    return tally


def _damage(kind: str, path: Path, read: Reader, tally: Tally) -> None:
    whole, expected = path.read_bytes(), read(path)
    decoded = path.parent.parent.name == "home"  # anew after each damage, which takes longer
    for name, content in _damages(whole, 30 if decoded else 150):
        path.write_bytes(content)
        with collected():
            try:
                same = read(path) == expected
            except (UserError, ValueError):  # noticed
                same = True
            except Exception as error:
                same = False
                name += f" raises {error!r}"  # noqa: PLW2901
        tally.add(f"{kind}: {name} of {len(whole)}", [] if same else ["taken"])
        if not path.parent.exists():  # a folder was set aside
            path.parent.mkdir()
    path.write_bytes(whole)


def _damages(whole: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield damaged contents: `count` flipped bits, then lost sectors, cuts, additions."""
    draw, size = random.Random(0), len(whole)
    bits = range(8 * size) if ALL else (draw.randrange(8 * size) for _ in range(count))
    for bit in bits:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(content)
    for _ in range(count // 8):
        start, length = draw.randrange(size), draw.choice((8, 512))
        for filling in (b"\0", b"\xff"):
            content = whole[:start] + filling * len(whole[start : start + length])
            content += whole[start + length :]
            yield f"{length} bytes of {filling!r} at {start}", content
        yield f"cut at {start}", whole[:start]
        yield f"cut out at {start}", whole[:start] + whole[start + length :]
        yield f"twice at {start}", whole[: start + length] + whole[start:]
    yield "empty", b""
    yield "zeros", bytes(size)
    yield "one byte more", whole + b"\0"
    yield "the file twice", whole + whole


def _by_key(found: dict[str, Any], path: Path) -> Any:
    return found[path.stem]


def _arrays(found: Any) -> Any:
    """Return arrays, tensors and their containers in a form that `==` compares."""
    if isinstance(found, torch.Tensor):
        return str(found.dtype), [*found.shape], found.numpy().tobytes()
    if isinstance(found, np.ndarray):
        return str(found.dtype), found.shape, found.tobytes()
    if isinstance(found, dict):
        return {name: _arrays(value) for name, value in found.items()}
    return [_arrays(one) for one in found] if isinstance(found, (tuple, list)) else found


def _state(path: Path) -> Any:
    checkpoint = Checkpoint(path)
    shapes = load_file(STATES / path.name)
    checkpoint._state = {name: torch.full_like(tensor, 7) for name, tensor in shapes.items()}
    checkpoint._restore(path)
    return _arrays(checkpoint._state), checkpoint._done


def _strip(path: Path) -> Any:
    strip = read_strip(OUT, path.stem)
    assert strip is not None
    return _arrays([strip.clean, strip.poisoned, strip.labels, strip.names, strip.index])


def _measurement(path: Path) -> Any:
    found = [one for one in MEASURED_ROBUSTNESS.all(OUT) if one.key == path.stem]
    if not found:
        raise ValueError("left out")
    return found


def _facts(data: Data) -> Any:
    parts = (data.train.images, data.train.labels, data.test.images, data.test.labels)
    return _arrays([np.asarray(part) for part in (*parts, data.class_names)]), data.sha256


def _data() -> Data:
    return ImageNetSubset(path="pictures", classes=4, size=8, crop=8).load()


STATES = Path("states")
READERS: dict[str, tuple[str, Reader]] = {
    "record": ("out/cells/*.json", lambda path: ResultsFolder(OUT).record(path.stem)),
    "plan": ("out/plans/*.json", lambda path: _by_key(ResultsFolder(OUT).plans(), path)),
    "failure": ("out/failures/*.json", lambda path: _by_key(ResultsFolder(OUT).failures(), path)),
    "measurement": ("out/robustness/*.json", _measurement),
    "marker": ("out/ubench.json", lambda _: [*ResultsFolder(OUT).plans()]),
    "poison": ("out/poisons/*.safetensors", lambda p: _arrays(ResultsFolder(OUT).poison(p.stem))),
    "network": (
        f"out/networks/{32 * '?'}.safetensors",
        lambda path: _arrays(read_tensors(path, torch.device("cpu"))),
    ),
    "state at an update": (
        "out/networks/*-1.safetensors",
        lambda path: _arrays(read_tensors(path, torch.device("cpu"))),
    ),
    "checkpoint": ("out/work/*.safetensors", _state),
    "strip": ("out/strips/*.safetensors", _strip),
    "noise": ("out/noise/*.safetensors", lambda path: _arrays(read_noise(OUT, path.stem))),
    "data": ("home/cifar10.npz", lambda path: _facts(read_npz(path, "data"))),
    "decoded training pictures": ("home/imagenet-subset-*/train.npy", lambda _: _facts(_data())),
    "decoded test pictures": ("home/imagenet-subset-*/test.npy", lambda _: _facts(_data())),
    "hash of pictures": ("home/imagenet-subset-*/sha256", lambda _: _facts(_data())),
}
