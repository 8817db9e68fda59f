"""Lists of values: which variants they make, in which order, and under which names and keys."""

import itertools
import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from unlearnable_bench.cli import app
from unlearnable_bench.datasets.shapes import Shapes
from unlearnable_bench.errors import UserError
from unlearnable_bench.options import Configurable, option
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Cell
from unlearnable_bench.planning.plan_file import arguments
from unlearnable_bench.radius import Radius

DOCUMENT = Path(__file__).parent.parent / "docs" / "sweeps.md"


@pytest.fixture
def data(tmp_path: Path) -> str:
    return f"npz:{write_data(tmp_path / 'tiny.npz')}"


def write_data(path: Path) -> Path:
    images, names = np.zeros((8, 8, 8, 3), np.uint8), np.array(["a", "b"])
    split = {"x_train": images, "x_test": images}
    labels = {"y_train": np.arange(8) % 2, "y_test": np.arange(8) % 2}
    np.savez(path, class_names=names, **split, **labels)  # type: ignore[arg-type]
    return path


def cells(data: str, **asked: Any) -> tuple[Cell, ...]:
    return make_plan(**{"methods": ["sc"], "clean": False, "dataset": data, **asked}).cells


def keys(data: str, **asked: Any) -> set[str]:
    return {cell.key for cell in cells(data, **asked)}


def columns(data: str, **settings: Any) -> list[str]:
    named = {name.replace("_", ".", 1): value for name, value in settings.items()}
    return [c.defense.label for c in cells(data, defenses=["jpeg"], settings=named)]


def rows(data: str, method: str, settings: dict[str, Any], **asked: Any) -> list[str]:
    return [c.attack_label for c in cells(data, methods=[method], settings=settings, **asked)]


def test_plans_of_single_values_have_the_keys_that_they_had_before_sweeps() -> None:
    readme = make_plan(methods=["sem", "rem"], rho_a=[Radius("4/255")], preset="smoke")
    assert readme.key == "585d6299"
    settings = {
        "training.lr": "5e-2",
        "training.epochs": "3",
        "training.nesterov": "true",
        "sem.lr": "0.10",
        "jpeg.quality": "50",
        "small-cnn.width": "4",
        "em.variant": "misaligned",
        "shapes.contrast": "80",
        "sem.noise_rho_a": "2/255",
    }
    plan = make_plan(
        methods=["em", "sem"],
        rho_a=[Radius("0"), Radius("8/510")],
        rho_u=[Radius("4/255"), Radius("8/255")],
        defenses=["none", "jpeg+cutout"],
        learners=["small-cnn", "resnet18"],
        protect=[0.5, 1.0],
        seeds=[0, 2],
        settings=settings,
    )
    assert (plan.key, len(plan.cells)) == ("592e1175", 160)


def test_each_value_of_a_defense_makes_a_column_in_the_order_written(data: str) -> None:
    assert columns(data, jpeg_quality="90,70,50,30,10") == [
        "jpeg[quality=90]",
        "jpeg[quality=70]",
        "jpeg[quality=50]",
        "jpeg[quality=30]",
        "jpeg",
    ]


def test_the_default_among_the_values_is_the_cell_of_a_run_without_settings(data: str) -> None:
    (default,) = keys(data, defenses=["jpeg"])
    found = cells(data, defenses=["jpeg"], settings={"jpeg.quality": "90,10"})
    assert found[1].key == default
    assert found[0].key != default


def test_each_value_of_an_attack_makes_a_row(data: str) -> None:
    """4 is the preset's."""
    labels = ["sem[noise_steps=1]", "sem", "sem[noise_steps=10]"]
    assert rows(data, "sem", {"sem.noise_steps": "1,4,10"}) == labels


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"em.variant": "official, misaligned"}, ["em", "em[variant=misaligned]"]),
        ({"sem.noise_rho_a": "none,2/255"}, ["sem", "sem[noise_rho_a=2/255]"]),
        ({"tap.untargeted": "false,true"}, ["tap", "tap[untargeted=True]"]),
        ({"sem.lr": "5e-2,0.1"}, ["sem", "sem[lr=0.1]"]),
    ],
)
def test_options_of_every_type_but_text_are_swept(
    data: str, settings: dict[str, str], labels: list[str]
) -> None:
    (method,) = {key.partition(".")[0] for key in settings}
    assert rows(data, method, settings) == labels


def test_several_options_make_a_product_whose_first_one_changes_slowest(data: str) -> None:
    settings = {"sem.steps": "5,6", "sem.lr": "0.1,0.2"}
    assert rows(data, "sem", settings) == [
        "sem[lr=0.1,steps=5]",
        "sem[lr=0.2,steps=5]",
        "sem[lr=0.1,steps=6]",
        "sem[lr=0.2,steps=6]",
    ]
    turned = dict(reversed(settings.items()))
    assert rows(data, "sem", turned)[:2] == ["sem[lr=0.1,steps=5]", "sem[lr=0.1,steps=6]"]


def test_parts_of_a_composed_defense_are_swept_by_their_names(data: str) -> None:
    found = cells(
        data,
        defenses=["none", "jpeg", "jpeg+cutout"],
        settings={"cutout.size": "4,16", "jpeg.quality": "90,50"},
    )
    assert [cell.defense.label for cell in found] == [
        "none",
        "jpeg[quality=90]",
        "jpeg[quality=50]",
        "jpeg[quality=90]+cutout[size=4]",
        "jpeg[quality=90]+cutout",
        "jpeg[quality=50]+cutout[size=4]",
        "jpeg[quality=50]+cutout",
    ]


def test_radii_of_the_noise_multiply_the_values_of_an_attack(data: str) -> None:
    found = cells(
        data,
        methods=["sem"],
        rho_u=[Radius("4/255"), Radius("8/255")],
        settings={"sem.steps": "5,400"},
    )
    names = [(str(c.poison.attack.plugin.option_values()["rho_u"]), c.attack_label) for c in found]
    labels = ("sem[steps=5]", "sem")
    assert names == [(radius, label) for radius in ("4/255", "8/255") for label in labels]


def test_values_that_mean_the_same_count_once(data: str) -> None:
    assert columns(data, jpeg_quality="50,050, 50,10") == ["jpeg[quality=50]", "jpeg"]
    assert len(cells(data, methods=["sem"], settings={"sem.rho_u": "4/255,8/510,1/255"})) == 2
    assert columns(data, jpeg_quality="10,10") == ["jpeg"]


SWEPT = {
    "sem.steps": ["5", "400"],
    "small-cnn.width": ["4", "8", "16"],
    "jpeg.quality": ["90", "10"],
}


@pytest.mark.parametrize("learners", [[], ["resnet18"], ["resnet18", "small-cnn"]])
def test_a_sweep_holds_the_cells_of_the_runs_with_single_values(
    data: str, learners: list[str]
) -> None:
    """`random` needs no surrogate, small-cnn is learner and surrogate: no cell is there twice."""
    asked = {"methods": ["random", "sem"], "defenses": ["none", "jpeg"], "learners": learners}
    singles = [
        keys(data, **asked, clean=True, settings=dict(zip(SWEPT, values, strict=True)))
        for values in itertools.product(*SWEPT.values())
    ]
    swept = cells(data, **asked, clean=True, settings=SWEPT)
    assert {cell.key for cell in swept} == set.union(*singles)
    assert len({cell.key for cell in swept}) == len(swept)


def test_a_learner_that_makes_the_noise_has_the_same_options_in_both_places(data: str) -> None:
    found = cells(data, methods=["sem"], settings={"small-cnn.width": "4,16"})
    assert [(cell.attack_label, cell.learner.label) for cell in found] == [
        ("sem[surrogate=small-cnn[width=4]]", "small-cnn[width=4]"),
        ("sem", "small-cnn"),
    ]


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ({"jpeg.quality": [90, 70]}, {"jpeg.quality": "90,70"}),
        ({"jpeg.quality": (90, "70")}, {"jpeg.quality": "90,70"}),
        ({"jpeg.quality": 90}, {"jpeg.quality": "90"}),
        ({"sc.rho_u": [None, Radius("8/255")]}, {"sc.rho_u": "none,8/255"}),
        ({"training.nesterov": True}, {"training.nesterov": "true"}),
        ({"training.lr": 0.1, "training.steps": None}, {"training.lr": "0.1"}),
        ({"training.epochs": 3}, {"training.epochs": "3"}),
    ],
)
def test_a_notebook_may_give_typed_values(
    data: str, typed: dict[str, Any], text: dict[str, Any]
) -> None:
    asked = {"defenses": ["jpeg"], "methods": ["sc"]}
    assert keys(data, **asked, settings=typed) == keys(data, **asked, settings=text)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"jpeg.quality": [90, [70]]}, r"jpeg\.quality takes a text.*got \[70\] of type list"),
        ({"jpeg.quality": {90: 70}}, r"jpeg\.quality takes a text.*of type dict"),
        ({"jpeg.quality": b"90"}, r"jpeg\.quality takes a text.*of type bytes"),
        ({"jpeg.quality": []}, r"jpeg\.quality takes int, or several separated by commas: got ''"),
        ({"jpeg.quality": [90.0]}, r"jpeg\.quality takes int: got '90.0'"),
        ({"jpeg.quality": ["90,70"]}, r"jpeg\.quality takes int: got '90,70'"),
        ({"jpeg.quality": [True]}, r"jpeg\.quality takes int: got 'true'"),
        ({"jpeg.quality": [90, None]}, r"jpeg\.quality takes int: got 'none'"),
        ({"jpeg.quality": [90, 101]}, r"jpeg\.quality must be at most 100, got 101"),
        (["jpeg.quality"], r"settings=\.\.\.\) takes a dict of options, got \['jpeg"),
    ],
)
def test_what_is_no_value_of_an_option_is_refused(data: str, settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        cells(data, defenses=["jpeg"], settings=settings)


@pytest.mark.parametrize(
    "key", ["training.epochs", "adversarial.epochs", "npz.pad", "adversarial.lr"]
)
def test_what_a_plan_has_one_of_is_not_swept(data: str, key: str) -> None:
    words = rf"--set {key} takes one value per run, got 1(\.0)? and 2(\.0)?; run once with each"
    with pytest.raises(UserError, match=words):
        cells(data, settings={key: "1,2"}, rho_a=[Radius("4/255")])
    once, twice = (keys(data, settings={key: v}, rho_a=[Radius("4/255")]) for v in ("1", "1,1"))
    assert once == twice


def test_a_comma_in_a_path_is_part_of_the_path(tmp_path: Path) -> None:
    path = write_data(tmp_path / "a,b.npz")
    assert make_plan(methods=["sc"], dataset=f"npz:{path}").data.name.startswith("npz:a,b")
    named = make_plan(methods=["sc"], dataset="npz", settings={"npz.path": str(path)})
    assert named.data.sha256 == make_plan(methods=["sc"], dataset=f"npz:{path}").data.sha256


def test_noise_from_several_files_is_swept_by_a_list(data: str, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("one.npy", "two,three.npy")]
    for index, path in enumerate(paths):
        np.save(path, np.full((8, 8, 8, 3), index + 1, np.int8))
    found = cells(data, methods=["file"], settings={"file.path": paths})
    assert [cell.poison.attack.plugin.option_values()["path"] for cell in found] == paths
    with pytest.raises(UserError, match=r"two,three\.npy"):
        cells(data, methods=["file"], settings={"file.path": ",".join(paths)})


@dataclass(frozen=True, kw_only=True)
class Mine(Configurable):
    title: str = option("", "a text")
    note: str | None = option(None, "a text or none")
    count: int | None = option(None, "a number or none")


def test_a_text_is_no_list_even_where_it_may_be_none() -> None:
    texts = {"title": "a,b", "note": "c,d", "count": "1,none"}
    assert Mine.variants(texts, owner="mine") == [
        {"title": "a,b", "note": "c,d", "count": 1},
        {"title": "a,b", "note": "c,d", "count": None},
    ]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [3]),
        ("0-4", [0, 1, 2, 3, 4]),
        ("0,2-4", [0, 2, 3, 4]),
        ("7-7, 1 - 2", [7, 1, 2]),
        (["1", "3-4"], [1, 3, 4]),
        ("0-999", list(range(1000))),
    ],
)
def test_seeds_may_be_ranges(text: str | list[str], seeds: list[int]) -> None:
    assert arguments({"seeds": text}, "--") == {"seeds": seeds}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4-1", "--seeds '4-1': a range must ascend, such as 1-4"),
        ("0-1000", "--seeds '0-1000': a plan has at most 1,000 seeds"),
        ("0-9,0-999", "--seeds '0-999': a plan has at most 1,000 seeds"),
        ("0-99999999999999", "at most 1,000 seeds"),
        ("1-", "--seeds '1-': give comma-separated whole numbers or ranges, such as 0,2-4"),
        ("1-2-3", "--seeds '1-2-3': give comma-separated whole numbers"),
        ("1,,2", "--seeds '1,,2': give comma-separated whole numbers"),
        ("٣", "give comma-separated whole numbers"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        arguments({"seeds": text}, "--")


def test_the_commands_and_the_plan_file_of_the_document_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Shapes, "load", cache(Shapes.load))
    monkeypatch.setattr(
        "unlearnable_bench.screen.console.estimate", lambda *_, **__: "not timed here"
    )
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)
    commands = "".join(block for kind, block in blocks if not kind).splitlines()
    (example,) = [block for kind, block in blocks if kind == "toml"]
    Path("example.toml").write_text(example, encoding="utf-8")
    planned = ""
    for command in [*commands, "ubench run example.toml"]:
        words = [*shlex.split(command)[1:], "--dry-run", "--device", "cpu"]
        done = CliRunner().invoke(app, words)
        assert done.exception is None, f"{command}: {done.exception}"
        planned += done.output
    for cells in (
        "12: clean, sc x defenses none, jpeg[quality=90], jpeg[quality=70], jpeg[quality=50], ",
        "10: clean, em, sem[noise_steps=1], sem[noise_steps=2], sem x training at rho_a 0, 4/255 ",
        "jpeg[quality=90]+cutout[size=4], jpeg[quality=90]+cutout[size=8], jpeg[quality=50]+",
        "18: clean, em, sem[steps=200] x training at rho_a 0, 4/255 x seeds 0, 1, 2",
        "clean, sem[steps=200], sc x defenses none, jpeg[quality=90], jpeg[quality=70], jpeg[",
    ):
        assert cells in planned
