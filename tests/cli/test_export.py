"""`ubench export`: which poison a key means, and what is refused before anything is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Command, run_tiny

from unlearnable_bench import Record, UserError, api
from unlearnable_bench.curation.reproduction import plan_of
from unlearnable_bench.planning import registry
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.export import poison_as_recorded

DATA = ("--dataset", "npz:tiny.npz", "--device", "cpu")


def record(attack: str, folder: str = "results", protect: float = 1) -> Record:
    """Return the one record of an attack."""
    found = [
        one
        for one in ResultsFolder(Path(folder)).records()
        if one.attack.startswith(attack) and one.protect == protect
    ]
    assert len(found) == 1
    return found[0]


def arrays(place: str) -> dict[str, Any]:
    with np.load(Path(place) / "images.npz") as file:
        return dict(file)


def poison_path(of: Record) -> Path:
    return Path("results", "poisons", f"{of.poison['key']}.safetensors")


@pytest.fixture
def changed_nothing(workplace: Path) -> Callable[[], bool]:
    files = {path: path.stat().st_mtime_ns for path in (workplace / "results").rglob("*")}

    def same() -> bool:
        now = {path: path.stat().st_mtime_ns for path in (workplace / "results").rglob("*")}
        return now == files

    return same


def test_a_stored_poison_is_exported_and_trains_to_the_same_accuracy(
    ubench: Command, changed_nothing: Callable[[], bool]
) -> None:
    sem = record("sem")
    found = ubench("export", "results", sem.key[:8], *DATA, "--out", "made", "--to", "folder")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("wrote made: 120 images")
    assert "train on it: ubench run --methods file:made --dataset npz:PATH" in found.out
    assert changed_nothing()
    card = json.loads(Path("made/card.json").read_text())
    assert card["sha256"]["images"] == card["poison_sha256"] == sem.poison["sha256"]
    assert card["record"] == sem.key
    assert card["papers"] == ["https://arxiv.org/abs/2311.13091"]
    assert ubench(*run_tiny("--methods", "ours=file:made", "--no-clean")).code == 0
    assert record("ours", "out").epoch_accuracy == sem.epoch_accuracy


def test_a_removed_poison_is_made_again_and_is_the_same(ubench: Command) -> None:
    sem = record("sem")
    shutil.move(poison_path(sem), "kept.safetensors")
    assert ubench("export", "results", sem.key, *DATA).code == 0
    made = arrays("npz-tiny-sem-steps=2-seed-0-npz")
    assert str(made["sha256"]) == sem.poison["sha256"]
    assert not poison_path(sem).exists()


@pytest.mark.usefixtures("workplace")
def test_a_poison_that_is_not_the_recorded_one_is_refused() -> None:
    sem = record("sem")
    (cell,) = plan_of(sem, {"dataset": "npz:tiny.npz"}).cells
    poison_path(sem).unlink()
    with pytest.raises(UserError, match=r"made again here it is another one .*export it on the"):
        poison_as_recorded(
            cell,
            ResultsFolder(Path("results")),
            sem.poison | {"sha256": "0" * 64},
            torch.device("cpu"),
        )


def test_half_of_the_images_carry_the_noise_of_a_cell_and_all_of_its_poison(
    ubench: Command,
) -> None:
    done = ubench(*run_tiny("--methods", "random", "--protect", "1,0.5", "--no-clean"))
    assert done.code == 0
    half, whole = record("random", "out", 0.5), record("random", "out")
    assert not (Path("out/poisons") / f"{whole.poison['key']}.safetensors").exists()
    found = ubench("export", "out", half.key, *DATA, "--out", "half", "--with-test")
    assert "60 of 120 images carry the noise" in found.out
    assert ubench("export", "out", half.poison["key"], *DATA, "--out", "all").code == 0
    one, other = arrays("half"), arrays("all")
    with np.load("tiny.npz") as clean:
        changed = (one["images"] != clean["x_train"]).any((1, 2, 3))
        np.testing.assert_array_equal(changed, one["protected"])
        np.testing.assert_array_equal(one["test_images"], clean["x_test"])
    assert one["protected"].sum() == 60
    assert other["protected"].all()
    np.testing.assert_array_equal(one["images"][changed], other["images"][changed])
    assert str(other["sha256"]) == whole.poison["sha256"]


def test_what_cannot_be_exported_is_refused_in_one_line(
    ubench: Command, refused: Callable[..., str]
) -> None:
    sem, clean = record("sem").key, record("clean").key
    unknown = refused("export", "results", "zz", *DATA)
    assert "no poison or cell has the key 'zz'; ubench status results lists the keys" in unknown
    assert "is the beginning of 4 keys" in refused("export", "results", "", *DATA)
    assert "trained on clean images" in refused("export", "results", clean, *DATA)
    assert "give --dataset npz:PATH" in refused("export", "results", sem)
    assert "unknown format 'zip'" in refused("export", "results", sem, "--to", "zip")
    assert "unknown content 'both'" in refused("export", "results", sem, "--what", "both")
    noise = refused("export", "results", sem, "--to", "folder", "--what", "noise")
    assert "noise has a sign; write it with --to npz or --to safetensors" in noise
    occupied = refused("export", "results", sem, *DATA, "--out", "results")
    assert "results is not empty; choose another folder with --out" in occupied
    assert ubench("export", "results", sem, *DATA, "--out", "made").code == 0
    within = refused("export", "results", sem, *DATA, "--out", "made/deep/inner")
    assert "made is an export, whose card describes other files" in within
    assert "choose a folder outside of it" in within
    assert not Path("made/deep").exists()
    for place in ("tiny.npz", "tiny.npz/deep"):
        assert "tiny.npz is a file" in refused("export", "results", sem, *DATA, "--out", place)


def test_a_damaged_poison_is_named_and_nothing_is_written(refused: Callable[..., str]) -> None:
    sem = record("sem")
    content = bytearray(poison_path(sem).read_bytes())
    content[-5] ^= 1
    poison_path(sem).write_bytes(content)
    line = refused("export", "results", sem.key, *DATA, "--out", "made")
    assert f"{poison_path(sem)} is damaged" in line
    assert "move it away and run the command again" in line


def test_a_poison_without_a_finished_cell_is_refused(refused: Callable[..., str]) -> None:
    sem = record("sem")
    Path("results", "cells", f"{sem.key}.json").unlink()
    line = refused("export", "results", sem.poison["key"], *DATA)
    assert f"no cell was finished on the poison {sem.poison['key']}" in line


PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from unlearnable_bench import Attack, Poison, Radius


@dataclass(frozen=True, kw_only=True)
class Brighten(Attack):
    '''The same shift of all values.'''

    surrogate: ClassVar[Literal["none"]] = "none"

    def generate(self, images, harness):
        noise = np.full(images.images.shape, 3)
        return Poison.from_noise(images, noise, Radius("8/255"))
"""


def test_noise_of_a_file_and_of_a_plugin_which_are_not_stored_is_exported(ubench: Command) -> None:
    Path("mine.py").write_text(PLUGIN)
    np.save("noise.npy", np.random.default_rng(0).integers(-8, 9, (120, 16, 16, 3), np.int8))
    plugin = ("--plugin", "mine.py")
    run = run_tiny("--methods", "ours=file:noise.npy,brighten", "--no-clean", *plugin)
    assert ubench(*run).code == 0
    assert not list(Path("out").glob("poisons/*.safetensors"))
    mine, ours = record("brighten", "out"), record("ours", "out")
    arguments = ("export", "out", mine.key, *DATA, "--what", "noise", "--out", "mine")
    registry.attacks.forget_file(Path("mine.py"))  # as in the next process
    assert "give --plugin FILE" in ubench(*arguments).err
    assert ubench(*arguments, *plugin).code == 0
    with np.load("mine/noise.npz") as file, np.load("tiny.npz") as clean:
        np.testing.assert_array_equal(file["noise"], np.minimum(3, 255 - clean["x_train"]))
    arguments = ("export", "out", ours.key, *DATA, "--out", "ours")
    assert "give --methods ours=file:PATH" in ubench(*arguments).err
    assert ubench(*arguments, "--methods", "ours=file:noise.npy").code == 0
    assert str(arrays("ours")["sha256"]) == ours.poison["sha256"]


FAILS = """

@dataclass(frozen=True, kw_only=True)
class Boom(Brighten):
    '''Fails.'''

    def generate(self, images, harness):
        with open("tries", "a") as file:
            file.write("x")
        raise RuntimeError("boom")
"""


def test_a_run_exports_what_is_finished_and_names_what_is_not(ubench: Command) -> None:
    Path("mine.py").write_text(PLUGIN + FAILS)
    run = run_tiny("--methods", "boom,brighten", "--no-clean", "--plugin", "mine.py")
    done = ubench(*run, "--export", "poisoned")
    assert done.code == 2
    (place,) = Path("poisoned").iterdir()
    assert f"wrote {place}\n" in done.out
    assert place.name.startswith("brighten-seed-0-")
    assert Path("tries").read_text() == "x"
    failed, left_out = done.err.splitlines()
    assert "RuntimeError: boom" in failed
    assert left_out == (
        "ubench: --export has left out the images of boom, small-cnn, rho_a 0, seed 0, which is "
        "not finished; run the same command again"
    )


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_a_damaged_export_is_written_again(ubench: Command, damage: str) -> None:
    run = run_tiny("--methods", "random", "--no-clean", "--export", "poisoned")
    assert ubench(*run).code == 0
    (place,) = Path("poisoned").iterdir()
    whole = arrays(str(place))
    assert ubench(*run).code == 0
    if damage == "changed":
        np.savez(place / "images.npz", **(whole | {"images": whole["images"] ^ 1}))
    else:
        (place / "images.npz").unlink()
    done = ubench(*run)
    assert done.code == 2
    assert done.err == (
        f"ubench: {place} is damaged (its files do not match card.json); moved to "
        "poisoned/damaged, it is exported again\n"
    )
    np.testing.assert_array_equal(arrays(str(place))["images"], whole["images"])
    assert (Path("poisoned/damaged") / place.name / "card.json").exists()
    assert ubench(*run).code == 0


def test_an_export_of_a_run_is_refused_before_any_work(
    ubench: Command, refused: Callable[..., str]
) -> None:
    run = run_tiny("--methods", "random")
    line = refused(*run, "--export", "tiny.npz")
    assert line == "ubench: tiny.npz is a file; choose a new folder\n"
    key = record("sem").key
    assert ubench("export", "results", key, *DATA, "--out", "made").code == 0
    assert "made is an export, whose card" in refused(*run, "--export", "made")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"form": "nzp"}, "unknown format 'nzp'; did you mean 'npz'"),
        ({"form": "folder", "what": "noise"}, "--to folder holds pictures, and noise has a sign"),
        ({"what": "pictures"}, "unknown content 'pictures'"),
        ({"into": "tiny.npz"}, "tiny.npz is a file"),
    ],
)
@pytest.mark.usefixtures("workplace")
def test_an_export_in_python_is_refused_before_any_work(changed: dict[str, Any], line: str) -> None:
    plan = api.make_plan(methods=["sem"], dataset="npz:tiny.npz", settings={"sem.steps": "2"})
    with pytest.raises(UserError, match=line):
        api.export(plan, "new", **({"into": "poisoned", "device": "cpu"} | changed))
    assert not Path("new").exists()
    assert not Path("poisoned").exists()
