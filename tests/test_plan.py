"""The grid of cells, their labels, and what their addresses depend on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlearnable_bench.errors import UserError
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Cell, Plan
from unlearnable_bench.planning.registry import load_plugin_file
from unlearnable_bench.radius import Radius

ATTACK = """
from dataclasses import dataclass
from unlearnable_bench import Attack, Defense, Learner

@dataclass(frozen=True, kw_only=True)
class MyNoise(Attack):
    '''Noise of mine.'''
    def generate(self, images, harness): ...
class MyDefense(Defense):
    '''Defense of mine.'''
    def prepare(self, images, harness): return images
"""


@pytest.fixture(autouse=True)
def _own_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for kind in registry.REGISTRIES.values():
            patch.setattr(kind, "_from_files", {})
        yield


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write(tmp_path / "tiny.npz", 0)


def write(path: Path, pixel: int) -> str:
    images = np.zeros((8, 8, 8, 3), np.uint8)
    images[0, 0, 0, 0] = pixel
    labels = np.arange(8) % 2
    np.savez(
        path,
        x_train=images,
        y_train=labels,
        x_test=images,
        y_test=labels,
        class_names=np.array(["a", "b"]),
    )
    return f"npz:{path}"


def plan(data: str, **asked: Any) -> Plan:
    return make_plan(**{"methods": ["sem"], "dataset": data, **asked})


def only(data: str, **asked: Any) -> Cell:
    (cell,) = plan(data, **{"clean": False, **asked}).cells
    return cell


def test_cells_are_the_product_of_everything_asked_for(data: str) -> None:
    load_plugin_file(_file(Path(data.removeprefix("npz:")).with_name("mine.py"), ATTACK))
    cells = plan(
        data,
        methods=["sem", "rem"],
        rho_a=[Radius("0"), Radius("4/255")],
        defenses=["none", "my-defense"],
        learners=["small-cnn", "resnet18"],
        seeds=[0, 1, 2],
    ).cells
    asked = {
        (attack, rho, defense, learner, seed)
        for attack in ("clean", "sem", "rem")
        for rho in ("0", "4/255")
        for defense in ("none", "my-defense")
        for learner in ("small-cnn", "resnet18")
        for seed in (0, 1, 2)
    }
    found = [
        (c.attack_label, str(c.rho_a), c.defense.label, c.learner.label, c.poison.seed)
        for c in cells
    ]
    assert len(found) == len(asked) == len({c.key for c in cells})
    assert set(found) == asked


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_what_is_asked_for_twice_is_run_once(data: str) -> None:
    cells = plan(
        data,
        methods=["clean", "sem", "sem"],
        rho_a=[Radius("4/255"), Radius("8/510")],
        rho_u=[Radius("8/255"), Radius("16/510")],
        seeds=[1, 1],
        learners=["small-cnn", "small-cnn"],
        defenses=["none", "none"],
    ).cells
    assert [cell.attack_label for cell in cells] == ["clean", "sem"]


def test_the_clean_control_is_there_unless_unwanted(data: str) -> None:
    assert [c.attack_label for c in plan(data).cells] == ["clean", "sem"]
    assert [c.attack_label for c in plan(data, clean=False).cells] == ["sem"]
    assert [c.attack_label for c in plan(data, methods=["clean"], clean=False).cells] == ["clean"]


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({}, "sem"),
        ({"sem.steps": "400"}, "sem"),
        ({"sem.steps": "5"}, "sem[steps=5]"),
        ({"sem.steps": "5", "sem.lr": "0.1", "sem.samples": "2"}, "sem[lr=0.1,steps=5]"),
        ({"sem.rho_u": "4/255"}, "sem"),
        ({"sem.rho_a": "2/255"}, "sem[rho_a=2/255]"),
        ({"sem.rho_a": "8/510"}, "sem"),
        ({"small-cnn.width": "4"}, "sem[surrogate=small-cnn[width=4]]"),
        ({"training.epochs": "1"}, "sem"),
    ],
)
def test_a_label_names_only_what_differs_from_the_preset(
    data: str, settings: dict[str, str], label: str
) -> None:
    assert only(data, settings=settings).attack_label == label


def test_a_label_names_another_surrogate(data: str) -> None:
    assert only(data, surrogate="resnet18").attack_label == "sem[surrogate=resnet18]"
    assert only(data, surrogate="small-cnn").attack_label == "sem"
    assert [
        cell.attack_label
        for cell in plan(data, methods=["random", "sem"], surrogate="resnet18", clean=False).cells
    ] == ["random", "sem[surrogate=resnet18]"]


def test_a_learner_option_that_changes_nothing_changes_no_label(data: str) -> None:
    usual, same = only(data), only(data, settings={"small-cnn.width": "16"})
    assert same.learner.label == usual.learner.label
    assert same.attack_label == usual.attack_label
    assert same.key == usual.key


@pytest.mark.parametrize(
    ("asked", "label"),
    [
        ({}, "smoke"),
        ({"settings": {"training.momentum": "0.90", "training.lr": "5e-2"}}, "smoke"),
        ({"settings": {"training.epochs": "3"}}, "smoke[training.epochs=3]"),
        (
            {"settings": {"adversarial.pgd_steps": "5"}, "rho_a": [Radius("4/255")]},
            "smoke[adversarial.pgd_steps=5]",
        ),
        ({"precision": "fp64"}, "smoke[precision=fp64]"),
        ({"precision": "fp32"}, "smoke"),
        (
            {"precision": "fp64", "settings": {"training.lr": "1", "training.epochs": "3"}},
            "smoke[precision=fp64,training.epochs=3,training.lr=1.0]",
        ),
    ],
)
def test_a_preset_label_names_what_the_user_changed(
    data: str, asked: dict[str, Any], label: str
) -> None:
    assert plan(data, **asked).preset_label == label


def test_a_preset_sets_schedules_attacks_and_learners(data: str) -> None:
    both = [Radius("0"), Radius("4/255")]
    standard, robust = plan(data, preset="fast", rho_a=both, clean=False).cells
    assert (standard.training.epochs, standard.training.batch_size) == (30, 512)
    assert (robust.training.epochs, robust.training.batch_size) == (24, 256)
    assert (robust.training.pgd_steps, robust.training.label_smoothing) == (4, 0.1)
    assert standard.learner.name == standard.poison.surrogate.name == "resnet18"
    assert standard.poison.precision == "bf16"
    smoke = only(data).poison.attack.plugin.option_values()
    assert (smoke["steps"], smoke["samples"]) == (400, 2)


def test_an_option_that_is_none_is_no_part_of_the_key(data: str) -> None:
    """So that results outlive a version that adds one."""
    chosen = only(data).poison.attack
    assert chosen.plugin.option_values()["noise_rho_a"] is None
    assert None not in chosen.identity()["options"].values()
    other = only(data, settings={"sem.noise_rho_a": "4/255"})
    assert other.key != only(data).key


KEYS = {
    "sem": ("ff5f74a8b326c3919029beddd81d93d9", "3068663d713dffd705e042f2b93ce9ed"),
    "rem": ("8368e6309ef8d104b9fc468f996d2f0b", "ca6d46d4ce0e9a0341e7403db90ae6b1"),
}


@pytest.mark.parametrize("method", KEYS)
def test_addresses_are_those_of_0_1(data: str, method: str) -> None:
    """What was computed then is found now."""
    cell = only(data, methods=[method], rho_a=[Radius("4/255")])
    assert (cell.key, cell.poison.key) == KEYS[method]
    assert cell.poison.clean_network_key == "2f42a803695416404c7adc58b63583bf"


def test_misaligned_em_has_the_address_of_0_2(data: str) -> None:
    """Its surrogate has always seen x - 0.5; that of EM as published has changed its input."""
    settings = {"em.variant": "misaligned"}
    assert (
        only(data, methods=["em"], settings=settings).poison.key
        == "7d90f7cfecfba8e6b65bc8884a39058e"
    )
    assert only(data, methods=["em"]).poison.identity["attack"]["version"] == "2"


def test_a_trajectory_has_one_address_wherever_it_stops(data: str) -> None:
    whole = only(data).poison
    stopped = [only(data, settings={"sem.stop": stop}).poison for stop in ("3", "7")]
    assert len({whole.key, *(poison.key for poison in stopped)}) == 3
    assert {poison.trajectory_key for poison in (whole, *stopped)} == {whole.key}
    other = only(data, settings={"sem.stop": "3", "sem.samples": "1"}).poison
    assert other.trajectory_key == only(data, settings={"sem.samples": "1"}).poison.key
    assert other.trajectory_key != whole.key


def test_labels_name_the_cell_as_its_record_will(data: str) -> None:
    settings = {"sem.steps": "5", "training.epochs": "3"}
    cell = only(
        data, settings=settings, rho_a=[Radius("8/510")], seeds=[4], rho_u=[Radius("6/255")]
    )
    assert cell.labels == {
        "dataset": "npz:tiny",
        "attack": "sem[steps=5]",
        "learner": "small-cnn",
        "defense": "none",
        "rho_a": "8/510",
        "rho_u": "6/255",
        "protect": 1.0,
        "preset": "smoke[training.epochs=3]",
        "seed": 4,
    }


@pytest.mark.parametrize(
    ("method", "rho_u"), [("clean", "0"), ("random", "8/255"), ("sc", ""), ("tap", "8/255")]
)
def test_labels_name_the_radius_asked_for(data: str, method: str, rho_u: str) -> None:
    assert only(data, methods=[method]).labels["rho_u"] == rho_u


def test_settings_override_presets_for_the_schedules_that_they_name(data: str) -> None:
    both = [Radius("0"), Radius("4/255")]

    def used(**settings: str) -> tuple[Any, Any]:
        changed = {key.replace("_", ".", 1): value for key, value in settings.items()}
        found = plan(data, preset="fast", rho_a=both, clean=False, settings=changed).cells
        return found[0].training, found[1].training

    standard, robust = used(training_epochs="2")
    assert (standard.epochs, robust.epochs) == (2, 2)
    standard, robust = used(adversarial_epochs="2")
    assert (standard.epochs, robust.epochs) == (30, 2)
    standard, robust = used(adversarial_epochs="2", training_epochs="3")
    assert (standard.epochs, robust.epochs) == (3, 2)
    standard, robust = used(training_steps="7")
    assert (standard.total(1000), robust.total(1000)) == (7, 7)


DETERMINING: list[dict[str, Any]] = [
    {"methods": ["rem"]},
    {"rho_a": [Radius("1/255")]},
    {"rho_u": [Radius("4/255")]},
    {"seeds": [1]},
    {"learners": ["resnet18"]},
    {"surrogate": "resnet18"},
    {"precision": "fp64"},
    {"defenses": ["my-defense"]},
    {"settings": {"sem.steps": "5"}},
    {"settings": {"sem.rho_a": "1/255"}},
    {"settings": {"training.epochs": "5"}},
    {"settings": {"training.nesterov": "true"}},
    {"settings": {"small-cnn.width": "4"}},
    {"settings": {"npz.pad": "0"}},
    {"settings": {"npz.flip": "false"}},
    {"preset": "fast"},
]


@pytest.mark.parametrize("asked", DETERMINING, ids=str)
def test_the_address_depends_on_all_that_determines_the_result(
    data: str, tmp_path: Path, asked: dict[str, Any]
) -> None:
    load_plugin_file(_file(tmp_path / "mine.py", ATTACK))
    assert only(data, **asked).key != only(data).key
    assert only(data, **asked).key == only(data, **asked).key


@pytest.mark.parametrize("asked", DETERMINING, ids=str)
def test_tables_keep_apart_all_that_determines_the_result_but_the_seed(
    data: str, tmp_path: Path, asked: dict[str, Any]
) -> None:
    load_plugin_file(_file(tmp_path / "mine.py", ATTACK))

    def names(cell: Cell) -> tuple[object, ...]:
        labels = cell.identity["labels"], cell.learner.label, cell.defense.label, cell.rho_a
        return *labels, cell.poison.attack.plugin.option_values()["rho_u"]

    assert (names(only(data, **asked)) == names(only(data))) is ("seeds" in asked)


def test_the_address_depends_on_the_pixels(data: str, tmp_path: Path) -> None:
    before = only(data).key
    assert only(write(tmp_path / "tiny.npz", 0)).key == before
    assert only(write(tmp_path / "tiny.npz", 1)).key != before


def test_the_address_depends_on_the_version_of_a_plugin(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = only(data).key
    monkeypatch.setattr(registry.attacks.get("sem"), "version", "2")
    assert only(data).key != before


@pytest.mark.parametrize(
    "same",
    [
        {"rho_u": [Radius("8/255")]},
        {"rho_u": [Radius("16/510")]},
        {"settings": {"sem.steps": "400"}},
        {"settings": {"training.momentum": "0.90"}},
        {"precision": "fp32", "surrogate": "small-cnn", "learners": ["small-cnn"]},
    ],
    ids=str,
)
def test_the_address_is_that_of_what_is_used_not_of_how_it_was_asked_for(
    data: str, same: dict[str, Any]
) -> None:
    found, usual = only(data, **same), only(data)
    assert found.poison.key == usual.poison.key
    assert found.key == usual.key


def test_the_noise_is_the_same_whatever_trains_the_learner(data: str) -> None:
    short, long = (
        only(data, methods=["tap"], settings={"training.epochs": epochs}) for epochs in ("1", "2")
    )
    assert short.poison.key == long.poison.key
    assert short.key != long.key


def test_the_schedule_of_the_clean_surrogate_is_part_of_its_poison(data: str) -> None:
    usual = only(data, methods=["tap"])
    changed = only(data, methods=["tap"], settings={"surrogate.epochs": "2"})
    assert changed.poison.training.epochs == 2
    assert changed.training == usual.training
    assert changed.poison.key != usual.poison.key
    assert changed.preset_label == "smoke[surrogate.epochs=2]"


def test_the_clean_control_is_the_same_whatever_makes_the_noise(data: str) -> None:
    keys = {
        plan(data, **asked).cells[0].key
        for asked in (
            {},
            {"surrogate": "resnet18"},
            {"methods": ["rem"]},
            {"rho_u": [Radius("4/255")]},
            {"settings": {"sem.steps": "3"}},
        )
    }
    assert len(keys) == 1


def test_one_poison_serves_every_learner_defense_and_radius(data: str, tmp_path: Path) -> None:
    load_plugin_file(_file(tmp_path / "mine.py", ATTACK))
    cells = plan(
        data,
        clean=False,
        rho_a=[Radius("0"), Radius("1/255")],
        learners=["small-cnn", "resnet18"],
        defenses=["none", "my-defense"],
        settings={"training.lr": "1"},
    ).cells
    assert len(cells) == 8
    assert {cell.poison.key for cell in cells} == {only(data).poison.key}


def test_the_content_of_a_plugin_file_is_part_of_the_address(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(text: str, name: str) -> str:
        for kind in registry.REGISTRIES.values():
            monkeypatch.setattr(kind, "_from_files", {})
        assert load_plugin_file(_file(tmp_path / name, text)) == ["my-noise", "my-defense"]
        return only(data, methods=["my-noise"]).key

    first = key(ATTACK, "one.py")
    assert key(ATTACK, "two.py") == first
    assert key(ATTACK + "# changed\n", "one.py") != first


def test_a_plan_has_one_address_in_whatever_order_it_is_asked_for(data: str) -> None:
    one = plan(data, methods=["sem", "rem"], seeds=[0, 1])
    other = plan(data, methods=["rem", "sem"], seeds=[1, 0])
    assert one.key == other.key
    assert one.key != plan(data, methods=["sem", "rem"], seeds=[0]).key


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("rem.steps", "rem is not in this plan; name it in --methods"),
        ("jpeg.quality", "jpeg is not in this plan; name it in --defenses"),
        ("resnet18.width", "resnet18 is not in this plan; name it in --learners"),
        ("shapes.train", "shapes is not in this plan; name it in --dataset"),
        ("report.x", "unknown part of this plan 'report'"),
    ],
)
def test_a_setting_of_what_takes_no_part_is_refused(data: str, key: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(data, settings={key: "3"})


@pytest.mark.parametrize("empty", ["rho_a", "seeds", "defenses"])
def test_an_empty_grid_is_refused(data: str, empty: str) -> None:
    with pytest.raises(UserError, match="nothing to run"):
        plan(data, **{empty: []})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"methods": "sem"}, r"methods=\.\.\.\) takes a list of str, got 'sem'"),
        ({"seeds": [0.5]}, r"seeds=\.\.\.\) takes int, got 0.5 of type float"),
        ({"seeds": [True]}, r"takes int, got True of type bool"),
        ({"rho_a": ["4/255"]}, r"rho_a=\.\.\.\) takes Radius, got '4/255' of type str"),
        ({"protect": 0.5}, r"protect=\.\.\.\) takes a list of int or float, got 0.5"),
    ],
)
def test_what_is_no_list_of_the_right_kind_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_plan(**{"methods": ["sem"], **asked})


def test_a_notebook_shows_no_pixels(data: str) -> None:
    plan = make_plan(methods=["sem"], dataset=data)
    for shown in (plan, plan.data, plan.data.train, plan.cells[0]):
        assert len(repr(shown)) < 100
    assert repr(plan) == f"<Plan {plan.key}: 2 cells on npz:tiny>"


def test_a_radius_given_twice_is_refused(data: str) -> None:
    with pytest.raises(UserError, match=r"--rho-u and --set sem\.rho_u set the same"):
        plan(data, rho_u=[Radius("4/255")], settings={"sem.rho_u": "8/255"})


@pytest.mark.parametrize("seed", [-1, 2**64])
@pytest.mark.parametrize("name", ["seeds", "noise_seeds"])
def test_a_seed_that_torch_does_not_take_is_refused(name: str, seed: int) -> None:
    given: dict[str, Any] = {name: [seed]}
    with pytest.raises(UserError, match=rf"seed {seed} is out of range; give seeds from 0 to"):
        make_plan(methods=["random"], **given)
