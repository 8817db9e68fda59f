"""Presets hold the settings of the sources that they name."""

from fractions import Fraction

import pytest

from unlearnable_bench import Radius
from unlearnable_bench.errors import UserError
from unlearnable_bench.options import as_text
from unlearnable_bench.planning import grid, registry
from unlearnable_bench.presets import Preset, load_preset, preset_names
from unlearnable_bench.schedule import Training


def chosen(preset: str, attack: str, **passed: str) -> dict[str, object]:
    options = load_preset(preset).options_of(attack, passed)
    return registry.attacks.choose(attack, passed, options).plugin.option_values()


def schedule(preset: str, rho_a: str) -> Training:
    base = load_preset(preset)
    changed = base.adversarial if rho_a != "0" else {}
    return Training.configured(base.training | changed, owner="training")


@pytest.mark.parametrize("preset", ["paper", "imagenet"])
@pytest.mark.parametrize("rho_a", ["0", "4/255"])
def test_the_official_schedule_is_40000_steps_of_128_images(preset: str, rho_a: str) -> None:
    """Momentum 0.9, weight decay 5e-4, 0.1 divided by ten at 16,000 and 32,000; fp32 there."""
    found = schedule(preset, rho_a)
    assert (found.steps, found.batch_size, found.lr, found.schedule) == (40000, 128, 0.1, "steps")
    assert (found.momentum, found.weight_decay) == (0.9, 5e-4)
    assert (found.nesterov, found.label_smoothing) == (False, 0)
    assert load_preset(preset).precision == "bf16"


def test_fast_keeps_nesterov_and_label_smoothing_in_adversarial_training() -> None:
    found = schedule("fast", "4/255")
    assert (found.nesterov, found.label_smoothing, found.pgd_steps) == (True, 0.1, 4)


@pytest.mark.parametrize(
    ("preset", "steps", "share"), [("paper", 10, "1/5"), ("imagenet", 8, "1/4")]
)
def test_adversarial_training_takes_the_official_steps(preset: str, steps: int, share: str) -> None:
    """10 steps of rho_a / 5 on CIFAR, 8 of rho_a / 4 on the ImageNet subset."""
    assert schedule(preset, "4/255").pgd_steps == steps
    assert Radius("4/255").step_size(steps) == pytest.approx(float(4 * Fraction(share) / 255))


def test_the_imagenet_preset_has_the_settings_of_the_official_scripts() -> None:
    for attack in ("rem", "sem"):
        found = chosen("imagenet", attack)
        assert (found["steps"], found["samples"], found["batch_size"]) == (3000, 4, 128)
        assert (found["noise_steps"], found["attack_steps"]) == (7, 7)
        assert (found["alpha_u"], found["alpha_a"]) == (Radius("2/255"), Radius("1/255"))
    # 100 steps of 0.16/255.
    tap = chosen("imagenet", "tap")
    assert tap["steps"] == 100
    assert tap["alpha_u"] == Radius("0.16/255")
    misaligned = chosen("imagenet", "em", variant="misaligned")
    assert (misaligned["steps"], misaligned["noise_steps"]) == (3000, 7)
    assert misaligned["alpha_u"] == Radius("2/255")
    # Those that are built on them.
    assert chosen("imagenet", "em-ops", variant="misaligned").items() >= misaligned.items()
    rem, asr = chosen("imagenet", "rem"), chosen("imagenet", "asr")
    assert {name for name in rem if rem[name] != asr[name]} == {"perturbation"}


def test_surrogates_of_fast_have_no_label_smoothing_and_learners_have() -> None:
    """With it, TAP's noise left 24 % instead of 7 (benchmarks/README.md)."""
    plan = grid.make_plan(
        preset="fast", dataset="shapes", methods=["tap", "sep", "dune"], clean=False
    )
    for cell in plan.cells:
        assert cell.poison.training is not None
        assert (cell.poison.training.label_smoothing, cell.training.label_smoothing) == (0, 0.1)


def test_a_section_of_a_variant_holds_for_that_variant_only() -> None:
    """EM as published keeps its own settings in the preset of the ImageNet subset."""
    assert chosen("imagenet", "em") == chosen("paper", "em")
    preset = Preset(
        "mine", "", "shapes", "small-cnn", "small-cnn", "fp32", {},
        attacks={"em": {"lr": 0.2}, "em[lr=0.3,variant=misaligned]": {"steps": 7}},
    )  # fmt: skip
    assert preset.options_of("em", {}) == {"lr": 0.2}
    assert preset.options_of("em", {"variant": "misaligned"}) == {"lr": 0.2}
    assert preset.options_of("em", {"variant": "misaligned", "lr": 0.3}) == {"lr": 0.2, "steps": 7}
    assert preset.options_of("sem", {"variant": "misaligned", "lr": 0.3}) == {}


def test_every_variant_of_a_plan_gets_its_own_section(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = load_preset("smoke")
    preset.attacks["em[variant=misaligned]"] = {"steps": 12}
    monkeypatch.setattr(grid, "load_preset", lambda _: preset)
    settings = {"em.variant": ["official", "misaligned"]}
    cells = grid.make_plan(methods=["em"], settings=settings, clean=False).cells
    steps = {
        cell.attack_label: cell.poison.attack.plugin.option_values()["steps"] for cell in cells
    }
    assert steps == {"em": 5000, "em[variant=misaligned]": 12}


@pytest.mark.parametrize("preset", preset_names())
def test_every_option_of_a_preset_exists(preset: str) -> None:
    for name, values in load_preset(preset).defenses.items():
        assert registry.defenses.get(name).configured(values, owner=name)
    for section, values in load_preset(preset).attacks.items():
        name, _, inside = section.rstrip("]").partition("[")
        settings = dict(setting.split("=") for setting in inside.split(",") if setting)
        plugin = registry.attacks.get(name).configured(settings | values, owner=name)
        assert not {*plugin.unread()} & {*values}
        assert {k: as_text(plugin.option_values()[k]) for k in settings} == settings


def test_the_label_of_a_preset_is_its_name_too() -> None:
    changed = {"adversarial.epochs": 6, "surrogate.lr": 0.07, "training.epochs": 3}
    both = grid.make_plan(
        preset="smoke", methods=["tap"], rho_a=[Radius("0"), Radius("1/255")], settings=changed
    )
    label = "smoke[adversarial.epochs=6,surrogate.lr=0.07,training.epochs=3]"
    assert both.preset_label == label
    assert {cell.key for cell in grid.make_plan(preset=label, methods=["tap"]).cells} == {
        cell.key for cell in both.cells if not cell.rho_a
    }
    # Settings go above it, and its precision holds.
    one = grid.make_plan(
        preset=f"{label[:-1]},precision=fp64]", settings={"training.epochs": 4}, methods=["random"]
    )
    assert one.preset_label == (
        "smoke[adversarial.epochs=6,precision=fp64,surrogate.lr=0.07,training.epochs=4]"
    )
    assert {cell.poison.precision for cell in one.cells} == {"fp64"}


@pytest.mark.parametrize(
    ("label", "line"),
    [
        ("fastt[training.epochs=1]", "unknown preset 'fastt'"),
        ("smoke[training.epochs]", r"--preset smoke\[training.epochs\]: write NAME or NAME\[OPT"),
        ("smoke[training.epochs=1", "write NAME or NAME"),
        ("smoke[training.epoch=1]", "unknown option of training 'epoch'"),
        ("smoke[sem.steps=1]", "--set sem.steps: sem is not in this plan"),
    ],
)
def test_a_wrong_label_is_refused(label: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        grid.make_plan(preset=label, methods=["random"])
