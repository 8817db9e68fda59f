"""What the command line refuses before it looks at any file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import ATTACKS, run_tiny


@pytest.mark.parametrize(
    ("arguments", "near", "listed"),
    [
        (("--methods", "semm"), "sem", ATTACKS),
        (("--methods", "sem,zzzz"), None, ATTACKS),
        (("--methods", "sem", "--defenses", "nonne"), "none", ("none",)),
        (("--methods", "sem", "--dataset", "shape"), "shapes", ("cifar10", "npz", "shapes")),
        (("--methods", "sem", "--preset", "smok"), "smoke", ("fast", "paper", "smoke")),
        (("--methods", "sem", "--learners", "small-cn"), "small-cnn", ("resnet18", "small-cnn")),
        (("--methods", "sem", "--surrogate", "resnet19"), "resnet18", ("resnet18", "small-cnn")),
        (("--methods", "sem", "--precision", "fp23"), "fp32", ("bf16", "fp32", "fp64")),
        (("--methods", "sem", "--set", "sem.stepz=3"), "steps", ("lr", "samples", "steps")),
        (("--methods", "sem", "--set", "training.epoch=3"), "epochs", ("epochs", "lr")),
        (("--methods", "sem", "--set", "npz.flop=true"), "flip", ("flip", "pad", "path")),
        (("--methods", "sem", "--set", "semm.steps=3"), "sem", ("clean", "sem", "training")),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_of_them(
    refused: Callable[..., str],
    arguments: tuple[str, ...],
    near: str | None,
    listed: tuple[str, ...],
) -> None:
    message = refused(*run_tiny(*arguments))
    assert ("did you mean" in message) == (near is not None)
    assert near is None or f"did you mean '{near}'?" in message
    assert all(name in message.rpartition(":")[2] for name in listed)


def test_an_unknown_report_format_plan_or_kind_is_refused_with_the_list(
    refused: Callable[..., str], workplace: Path
) -> None:
    message = refused("report", "results", "--format", "latx")
    assert "did you mean 'latex'?" in message
    assert {"csv", "json", "latex", "markdown"} <= set(message.rpartition(": ")[2].split(", "))
    (plan,) = [path.stem for path in (workplace / "results" / "plans").iterdir()]
    assert plan in refused("report", "results", "--plan", "0" * 8)
    message = refused("list", "attack")
    assert "did you mean 'attacks'?" in message
    assert "attacks, datasets, defenses, executors, learners, presets, reports" in message
    assert "document" in refused("report", "results", "--format", "latex", "--set", "dokument=true")
    assert "cifar10" in refused("data", "import", "cifar", "tiny.npz")


@pytest.mark.parametrize("flag", ["--rho-a", "--rho-u"])
@pytest.mark.parametrize(
    "text", ["4", "4/0", "-1/255", "300/255", "abc", "nan", "4/255,", "1/255x"]
)
def test_what_is_no_radius_is_refused(refused: Callable[..., str], flag: str, text: str) -> None:
    message = refused(*run_tiny("--methods", "sem", f"{flag}={text}"))
    assert flag in message
    assert repr(text.rpartition(",")[2]) in message
    assert "/255" in message


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("sem.steps=-3", ("sem.steps", "at least 1", "-3")),
        ("sem.steps=x", ("sem.steps", "int", "'x'")),
        ("sem.steps=2.5", ("sem.steps", "int", "'2.5'")),
        ("sem.steps=", ("sem.steps", "OPTION=VALUE")),
        ("sem.samples=0", ("sem.samples", "at least 1", "0")),
        ("sem.lr=nan", ("sem.lr", "nan")),
        ("sem.lr=inf", ("sem.lr", "inf")),
        ("sem.rho_u=8", ("sem.rho_u", "'8'", "4/255")),
        ("em.variant=zzz", ("em.variant", "official|misaligned", "'zzz'")),
        ("em.stop_error=1.5", ("em.stop_error", "at most 1", "1.5")),
        ("training.nesterov=maybe", ("training.nesterov", "bool", "'maybe'")),
        ("adversarial.pgd_steps=0", ("adversarial.pgd_steps", "at least 1", "0")),
        ("steps=3", ("SECTION.OPTION=VALUE", "steps=3")),
        (".steps=3", ("SECTION.OPTION=VALUE", ".steps=3")),
        ("rem.steps=3", ("rem.steps", "rem is not in this plan", "--methods")),
        ("sem.steps=5,x", ("sem.steps", "int", "'x'")),
        ("sem.steps=5,,6", ("sem.steps", "several separated by commas", "'5,,6'")),
        ("sem.steps=5,", ("sem.steps", "several separated by commas", "'5,'")),
        ("sem.steps=5,0", ("sem.steps", "at least 1", "0")),
        ("em.variant=official,zzz", ("em.variant", "official|misaligned", "'zzz'")),
        ("training.lr=1,2", ("training.lr", "one value per run", "run once with each")),
        ("npz.pad=1,2", ("npz.pad", "one value per run", "run once with each")),
    ],
)
def test_a_setting_outside_its_meaning_is_refused(
    refused: Callable[..., str], setting: str, parts: tuple[str, ...]
) -> None:
    message = refused(*run_tiny("--methods", "sem,em", "--set", setting))
    assert all(part in message for part in parts), message


def test_an_option_given_twice_is_refused_with_the_form_that_works(
    refused: Callable[..., str],
) -> None:
    twice = ("--set", "sem.steps=5", "--set", "sem.steps=6")
    assert "--set sem.steps=5,6" in refused(*run_tiny("--methods", "sem", *twice))
    twice = ("--set", "training.epochs=1", "--set", "training.epochs=2")  # takes one value
    message = refused(*run_tiny("--methods", "sem", *twice))
    assert "training.epochs is given twice: give it once" in message
    assert "1,2" not in message
    for single in ("shapes.contrast", "file.path", "npz.pad"):  # a data set, a text
        twice = ("--set", f"{single}=1", "--set", f"{single}=2")
        message = refused(*run_tiny("--methods", "sem", *twice))
        assert message.rstrip().endswith(f"{single} is given twice: give it once")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--methods", ""), "--methods"),
        (("--methods", "sem,,em"), "--methods"),
        (("--methods", "sem", "--seeds", "x"), "--seeds 'x'"),
        (("--methods", "sem", "--seeds", "-1"), "--seeds '-1'"),
        (("--methods", "sem", "--seeds", ""), "--seeds ''"),
        (("--methods", "sem", "--seeds", "4-1"), "such as 1-4"),
        (("--methods", "sem", "--protect", ""), "--protect ''"),
        (("--methods", "sem", "--rho-a", ""), "--rho-a: ''"),
        (("--methods", "sem", "--defenses", ","), "--defenses"),
        (("--methods", "sem", "--device", "tpu"), "'tpu'"),
        (("--methods", "sem", "--device", "meta"), "'meta'"),
        (("--methods", "sem", "--dataset", "npz"), "npz:PATH"),
        (("--methods", "sem", "--colour", "red"), "--colour"),
        (("--methods", "sem", "astray"), "astray"),
        ((), "--methods"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(
    refused: Callable[..., str], arguments: tuple[str, ...], part: str
) -> None:
    assert part in refused(*run_tiny(*arguments))


def test_report_settings_cannot_clash_with_the_api(refused: Callable[..., str]) -> None:
    assert "frame" in refused("report", "results", "--set", "frame=1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="refused only where there is no CUDA")
def test_cuda_without_cuda_is_refused_with_what_to_write(refused: Callable[..., str]) -> None:
    assert "--device cpu" in refused(*run_tiny("--methods", "sem", "--device", "cuda"))


def test_an_unknown_command_is_refused(refused: Callable[..., str]) -> None:
    assert "fly" in refused("fly")
    assert "plane" in refused("data", "plane")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("--quality", "50"),
            "--quality has no effect on --format png; add --format jpeg, or omit it",
        ),
        (("--no-check", "--learners", "x"), "--learners has no effect with --no-check; omit one"),
    ],
)
def test_options_of_protect_without_effect_are_refused(
    words: tuple[str, ...], line: str, refused: Callable[..., str]
) -> None:
    assert line in refused("protect", "photos", "--out", "safe", *words)
