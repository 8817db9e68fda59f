"""The command of a cell: read back and planned again, it is the same cell."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlearnable_bench.identity import canonical
from unlearnable_bench.planning import plan_file, registry
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Cell, Plan
from unlearnable_bench.planning.registry import load_plugin_file
from unlearnable_bench.results.command import command_of, recipe_of
from unlearnable_bench.results.frame import load_records

SMALL = ("--set", "shapes.train=60", "--set", "shapes.test=10")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "h200"
PLUGINS = """
from dataclasses import dataclass
from unlearnable_bench import Attack, Defense, option

@dataclass(frozen=True, kw_only=True)
class MyNoise(Attack):
    '''Noise of mine.'''
    text: str = option("", "a text")
    strength: float | None = option(1.0, "a number, or none")
    def generate(self, images, harness): ...

@dataclass(frozen=True, kw_only=True)
class MyFilter(Defense):
    '''Defense of mine.'''
    text: str = option("", "a text")
    def prepare(self, images, harness): return images
"""


def row(cell: Cell) -> dict[str, Any]:
    """Return what the frame of `load_records` has of the cell."""
    poison = cell.poison.identity | {"seed": None}
    return cell.labels | {"setting": canonical(cell.identity | {"poison": poison})}


def planned(command: str, dataset: str = "") -> Plan:
    """Plan what a command of `ubench run` asks for."""
    program, run, *words = shlex.split(command)
    assert (program, run) == ("ubench", "run")
    asked: dict[str, Any] = {"set": {}}
    position = iter(words)
    for word in position:
        if word == "--no-clean":
            asked["clean"] = False
        elif word == "--set":
            name, _, value = next(position).partition("=")
            asked["set"][name] = value
        else:
            asked[word.removeprefix("--")] = next(position)
    asked.pop("plugin", None)
    if dataset:
        asked["dataset"] = dataset
    return make_plan(**plan_file.arguments(asked, "--"))


def small(words: str) -> Plan:
    return planned(f"ubench run {words} {shlex.join(SMALL)}")


@pytest.mark.parametrize(
    "words",
    [
        "--methods sem",
        "--methods clean --rho-a 4/255 --seeds 3",
        "--methods sem,rem --rho-a 0,8/510 --seeds 0-1 --defenses jpeg",
        "--methods sem --rho-u 10/255 --set sem.rho_a=8/510 --set sem.lr=0.1,0.2",
        "--methods sc --rho-u 8/255",
        "--methods sc --set sc.strength=3",
        "--methods sc,random --set random.rho_u=10/255",
        "--methods em,tap --set em.batch_size=none --set tap.untargeted=true",
        "--methods sem --surrogate resnet18 --learners small-cnn,resnet18",
        "--methods sem --set small-cnn.width=4",
        "--methods sem,random --surrogate small-cnn --learners resnet18 --set small-cnn.width=4",
        "--methods sem --surrogate resnet18 --set small-cnn.width=4 --set sem.steps=5",
        "--methods sem --defenses jpeg+cutout+cutmix --set jpeg.quality=90,10 --set cutout.size=3",
        "--methods sem --defenses cutout --set cutout.size=3",
        "--methods sem,clean --protect 0.2,1",
        "--methods sem,clean --protect-classes disc,ring --protect 0.5",
        "--methods sem --precision bf16 --set training.epochs=2 --rho-a 0,4/255",
        "--methods sem,tap --set training.lr=0.10 --set adversarial.lr=0.05 --rho-a 0,4/255",
        "--methods sem --set training.epochs=9 --set adversarial.epochs=28 --rho-a 0,4/255",
        "--methods sem --set training.steps=50 --set adversarial.steps=none --rho-a 0,4/255",
        "--methods sem --set training.nesterov=true --set training.schedule=steps",
        "--methods random --dataset shapes --set shapes.contrast=80",
        "--methods ntga --preset smoke --set ntga.block=8,9 --set ntga.validation=9",
        "--methods clean --preset paper --dataset shapes --set training.pgd_steps=3 --rho-a 1/255",
        "--methods sem,tap --set surrogate.lr=0.07 --set adversarial.pgd_steps=2 --rho-a 0,4/255",
        "--methods sem --set training.pgd_steps=2 --defenses none,fgsm --rho-a 0,4/255",
    ],
)
def test_the_command_of_a_cell_plans_that_cell_again(words: str) -> None:
    cells = small(words).cells
    assert cells
    for cell in cells:
        again = planned(command_of(row(cell))).cells
        assert [one.key for one in again] == [cell.key]
        assert recipe_of(row(cell)).notes == ()


def test_replicates_share_all_but_the_seed() -> None:
    first, second = small("--methods sem --no-clean --seeds 3,41").cells
    assert command_of(row(first)).removesuffix("3") == command_of(row(second)).removesuffix("41")


def test_an_unfinished_cell_has_the_command_of_its_labels() -> None:
    words = "--methods sem --rho-a 4/255 --rho-u 10/255 --seeds 2 --defenses jpeg+cutout"
    for cell in small(f"{words} --set jpeg.quality=90 --set sem.steps=5 --protect 0.5").cells:
        again = planned(command_of(cell.labels | {"setting": ""})).cells
        assert [one.key for one in again] == [cell.key]


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny [1].npz"
    images = np.zeros((8, 8, 8, 3), np.uint8)
    names = np.array(["a, b", "c$(x)", "it's"])
    arrays = {f"{kind}_{split}": value for split in ("train", "test")
              for kind, value in (("x", images), ("y", np.arange(8) % 3))}  # fmt: skip
    np.savez(path, **arrays, class_names=names)
    return f"npz:{path}"


def test_the_path_of_a_data_set_is_to_be_filled_in(tiny: str) -> None:
    (cell,) = planned("ubench run --methods random --no-clean --set npz.pad=1", tiny).cells
    recipe = recipe_of(row(cell))
    assert " --dataset npz:PATH " in recipe.command
    assert recipe.notes == (
        "PATH: the file or folder of npz:tiny [1], whose path is not recorded.",
    )
    (again,) = planned(command_of(row(cell)), tiny).cells
    assert again.key == cell.key


def test_a_class_name_is_quoted_for_the_shell(tiny: str) -> None:
    words = "ubench run --methods random --no-clean --protect-classes"
    (cell,) = planned(f"{words} {shlex.quote('it' + chr(39) + 's,c$(x)')}", tiny).cells
    (again,) = planned(command_of(row(cell)), tiny).cells
    assert again.key == cell.key


def test_a_class_name_with_a_comma_is_no_single_command(tiny: str) -> None:
    (cell,) = make_plan(
        methods=["random"], dataset=tiny, protect_classes=["a, b", "it's"], clean=False
    ).cells
    assert "give the names as a list in a plan file" in " ".join(recipe_of(row(cell)).notes)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in registry.REGISTRIES.values():
        monkeypatch.setattr(kind, "_from_files", {})
    path = tmp_path / "mine.py"
    path.write_text(PLUGINS)
    load_plugin_file(path)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    "text", ["a,b=c", "x,strength=2", "1+1", "'; rm -rf / #", "[", "a]b", "None", "é ü"]
)
def test_a_plugin_of_a_file_is_named_by_its_hash_and_its_texts_are_whole(text: str) -> None:
    settings = {"my-noise.text": text, "my-noise.strength": "none", "my-filter.text": "q"}
    settings |= {"shapes.train": "60", "shapes.test": "10"}
    (cell,) = make_plan(
        methods=["my-noise"], defenses=["my-filter+cutout"], settings=settings, clean=False
    ).cells
    source = cell.poison.attack.source
    recipe = recipe_of(row(cell))
    assert " --plugin PLUGIN.py " in recipe.command
    assert recipe.notes == (f"PLUGIN.py: the file with my-noise and my-filter, SHA-256 {source}.",)
    (again,) = planned(command_of(row(cell))).cells
    assert again.key == cell.key


def test_a_file_of_noise_is_named_with_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "noise, mine.npy"
    images = small("--methods clean").data.train.images
    np.save(path, np.full_like(images, 2, np.int8))
    settings = {"shapes.train": "60", "shapes.test": "10"}
    (cell,) = make_plan(methods=[f"file:{path}"], clean=False, settings=settings).cells
    recipe = recipe_of(row(cell))
    digest = cell.poison.attack.plugin.fingerprint()
    assert recipe.notes == (f"{path} must have the SHA-256 {digest}.",)
    (again,) = planned(command_of(row(cell))).cells
    assert again.key == cell.key


@pytest.mark.parametrize("name", ["cifar10-fast", "cifar10-precision", "cifar10-paper"])
def test_records_of_the_first_version_have_a_command(name: str) -> None:
    for each in load_records(BENCHMARKS / name).to_dict("records"):
        words = shlex.split(command_of(each))
        attack = json.loads(each["setting"])["poison"]["attack"]["name"]
        assert words[words.index("--methods") + 1] == attack
        assert words[-2:] == ["--seeds", str(each["seed"])]
        notes = " ".join(recipe_of(each).notes)
        assert ("must have the SHA-256" in notes) if attack == "file" else not notes


def test_a_preset_of_another_version_is_noted() -> None:
    (cell,) = small("--methods sem --no-clean").cells
    recipe = recipe_of(cell.labels | {"setting": "", "preset": "gone[training.epochs=2]"})
    assert "--preset 'gone[training.epochs=2]'" in recipe.command
    assert recipe.notes == ("This version has no preset 'gone[training.epochs=2]'.",)
