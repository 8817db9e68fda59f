"""What the documents claim about the official code, held against constants read in it.

Update rules are held by the transcriptions of `oracles.py` and of each method's own tests, data
formats and filters by theirs. Here are the claims that no other test holds: the default settings,
and differences that the documents declare. Each row has the words of the document and what must be
true of the code, so that neither can change without the other.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_harness
from torch import nn

from unlearnable_bench import Attack, Radius
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.attacks.ntga import NTGA
from unlearnable_bench.attacks.rem import REM
from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.attacks.tap import TAP
from unlearnable_bench.attacks.tue import TUE
from unlearnable_bench.curation.verifying import verify
from unlearnable_bench.defenses.mart import MART
from unlearnable_bench.defenses.trades import TRADES
from unlearnable_bench.harness import sgd
from unlearnable_bench.learners.densenet121 import DenseNet121
from unlearnable_bench.learners.wide_resnet34_10 import WideResNet34x10
from unlearnable_bench.presets import load_preset

DOCS = Path(__file__).parent.parent / "docs"


def words(page: str) -> str:
    """Return a page with its line breaks as spaces."""
    return " ".join((DOCS / page).read_text(encoding="utf-8").split())


def levels(radius: str, steps: int, given: Radius | None = None) -> float:
    """Return a step size in units of 1/255."""
    return round(255 * Radius(radius).step_size(steps, given), 6)


def em(variant: Any) -> tuple[int, int]:
    attack = EM(variant=variant)
    return attack._noise_steps, attack._batch_size


def spread(network: nn.Module, name: str) -> float:
    """Return a weight's standard deviation times the root of its fan-in."""
    weight = network.get_submodule(name).weight
    assert isinstance(weight, torch.Tensor)
    return weight.std().item() * math.sqrt(weight[0].numel())


def densenet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DenseNet121().build(10, 32)


def wide() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WideResNet34x10().build(10, 8)


def options(attack: Attack, *names: str) -> tuple[Any, ...]:
    values = attack.option_values()
    return tuple(values[name] for name in names)


CLAIMS: list[tuple[str, str, Callable[[], object], object]] = [
    (
        "methods.md",
        "| noise step | 20 steps of 2 rho_u / 20 | 10 steps of 2 rho_u / 10 | 1 step of rho_u / 10",
        lambda: (em("official")[0], em("misaligned")[0], em("classwise")[0], levels("8/255", 20)),
        (20, 10, 1, 0.8),  # 0.8/255; 1.6/255 with ten
    ),
    (
        "methods.md",
        "| batch | 512, in order | 128, shuffled | 512, shuffled |",
        lambda: (em("official")[1], em("misaligned")[1], em("classwise")[1]),
        (512, 128, 512),
    ),
    (
        "methods.md",
        "| loop | rounds: 10 surrogate updates, then a sweep over all images | 5,000 updates",
        lambda: options(EM(), "batches", "steps", "lr", "stop_error", "rounds"),
        (10, 5000, 0.1, 0.01, 50),
    ),
    (
        "methods.md",
        "| input of the surrogate | [0, 1] | x - 0.5 | [0, 1] |",
        lambda: [EM(variant=v)._centred for v in ("official", "misaligned", "classwise")],
        [False, True, False],
    ),
    (
        "methods.md",
        (
            "10 steps of 2 rho_u / 10. Each step sums the gradients of 5 samples of t (crop "
            "and flip), each with its own delta_a by PGD-10 in rho_a = 4/255"
        ),
        lambda: options(REM(), "noise_steps", "samples", "attack_steps", "rho_a", "alpha_a"),
        (10, 5, 10, Radius("4/255"), None),
    ),
    (
        "methods.md",
        "After 5,000 updates (batch 128, learning rate 0.1, x0.1 at 40 % and 80 %)",
        lambda: [options(a, "steps", "batch_size", "lr") for a in (REM(), SEM())],
        [(5000, 128, 0.1)] * 2,
    ),
    (
        "methods.md",
        "| REM code: steps of 2 rho_u / 250 | rho_u / 20, as the authors; `tap.alpha_u=0.064/255`",
        lambda: (options(TAP(), "steps", "alpha_u", "restarts"), levels("8/255", 250)),
        ((250, None, 1), 0.064),
    ),
    (
        "methods.md",
        "| FNN kernel by default, or CNN | `cnn` by default;",
        lambda: options(NTGA(), "kernel", "t", "block", "steps", "stride"),
        ("cnn", 64, 512, 1, 2),
    ),
    (
        "methods.md",
        (
            "200 rounds from zero noise: an epoch of the encoders (batch 512), then a pass over "
            "the noise in a new order, 5 steps of rho_u / 10"
        ),
        lambda: (options(TUE(variant="moco"), "epochs", "batch_size"), TUE(variant="moco")._steps),
        ((200, 512), 5),
    ),
    (
        "methods.md",
        "among 4,096 earlier keys, temperature 0.2",
        lambda: options(TUE(variant="moco"), "queue", "temperature", "separation", "momentum"),
        (4096, 0.2, 1, 0.99),
    ),
    (
        "methods.md",
        "SGD, learning rate 0.3 without a schedule",
        lambda: options(TUE(variant="moco"), "lr", "splits"),
        (0.3, 8),
    ),
    (
        "methods.md",
        "For CIFAR-10, `moco` takes 114 million passes",
        lambda: round((TUE(variant="moco").image_passes(50_000) or 0) / 1e6),
        114,
    ),
    (
        "methods.md",
        "their steps are 0.226 rho_a instead of 0.2 rho_a",
        lambda: (TRADES().beta, levels("4/255", 10) / 4, round(0.007 / 0.031, 3)),
        (6, 0.2, 0.226),
    ),
    (
        "methods.md",
        "5 as in the authors' ResNet-18 script, `mart.beta=6` as in their WideResNet's",
        lambda: MART().beta,
        5,
    ),
    (
        # Uniform up to 1/sqrt(fan-in) has deviation 1/sqrt(3 fan-in), He's is sqrt(2/fan-in).
        "methods.md",
        (
            "CIFAR stem, initialised as PyTorch does (uniform); the REM code runs the 7x7 "
            "stem with max-pool at 32 px too, initialised normally (He, fan-in), 2.4 times "
            "wider"
        ),
        lambda: (spread(densenet(), "1.features.conv0"), round(math.sqrt(6), 1)),
        (pytest.approx(3**-0.5, rel=0.05), 2.4),
    ),
    (
        # Fan-out is four times fan-in in the first layer's channels: 16 x 9 against 3 x 9.
        "methods.md",
        (
            "convolutions initialised normally by fan-out; the REM code's blocks are "
            "post-activation and initialised as PyTorch does (uniform)"
        ),
        lambda: spread(wide(), "2.0.conv2"),
        pytest.approx(2**0.5, rel=0.02),
    ),
    (
        "protocol.md",
        (
            "`fast` has both label smoothing and Nesterov momentum in adversarial training "
            "too, the official code neither"
        ),
        lambda: [
            [(p.training | p.adversarial)[k] for k in ("nesterov", "label_smoothing")]
            for p in map(load_preset, ("fast", "paper", "imagenet"))
        ],
        [[True, 0.1], [False, 0], [False, 0]],
    ),
    (
        "protocol.md",
        "`paper` and `imagenet` are the official schedules in bf16",
        lambda: {load_preset(name).precision for name in ("paper", "imagenet")},
        {"bf16"},
    ),
    (
        "protocol.md",
        "the learning rate is a float32 number in it too",
        lambda: rate().dtype,
        torch.float32,
    ),
]


def rate() -> torch.Tensor:
    """Return the learning rate of an optimizer of the fp64 reference."""
    from helpers import random_images  # noqa: PLC0415

    network = make_harness("fp64").network(random_images())
    assert {p.dtype for p in network.parameters()} == {torch.float64}
    found = sgd(network, lr=0.1).param_groups[0]["lr"]
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize(
    ("page", "claim", "found", "expected"), CLAIMS, ids=[claim[:50] for _, claim, *_ in CLAIMS]
)
def test_the_claim_is_written_and_true(
    page: str, claim: str, found: Callable[[], object], expected: object
) -> None:
    assert claim in words(page)
    assert found() == expected


@pytest.mark.parametrize(
    "difference",
    [
        "EM code averages the stop error over batches",
        "the gradient leaves out 10 of the 10,000 held-out images",
        "t without antialiasing (torchvision 0.9)",
        "REM code: misaligned noise is float16 until it is saved",
        "REM code: noise is float16 until it is saved",
        "views are whole-pixel crops on black",
        "by the loss on the unaugmented images after the last step",
        "SEM and REM in other norms are left out",
        "its conclusion could not be read",
    ],
)
def test_the_difference_is_declared(difference: str) -> None:
    assert difference in words("methods.md") + words("paper.md")


def test_the_page_about_the_paper_has_each_item() -> None:
    page = words("paper.md")
    for item in (
        *(f"| Definition {number}," for number in (1, 2, 4, 5)),
        "| Theorem 3 |",
        *(f"| {number}, " for number in (1, 2, 3, 4, 5)),
        *("low-pass filters", "face recognition", "transfer to other", "part of the images"),
    ):
        assert item in page


def test_stored_records_are_of_the_form_that_the_page_says() -> None:
    folder = DOCS.parent / "benchmarks"
    page = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    changed = ("em", "ueraser-lite", "tap")
    found: dict[str, set[tuple[bool, object]]] = {name: set() for name in changed}
    for record in folder.glob("h200/*/cells/*.json"):
        place = record.parent.parent.name
        if place == "cifar10-calibration":  # crosses the forms
            continue
        is_old = place in ("cifar10-fast", "cifar10-paper", "cifar10-poisons")
        identity = json.loads(record.read_text(encoding="utf-8"))["identity"]
        for plugin in (identity["poison"]["attack"], identity["defense"]):
            if plugin["name"] in found:
                found[plugin["name"]].add((is_old, plugin["version"]))
    both = {(True, "1"), (False, "2")}
    assert found == {"em": both, "ueraser-lite": {(True, "1")}, "tap": both}
    assert "changed since the records of `cifar10-fast`, `-paper` and `-poisons`" in page
    assert "(`--set em.centred=true` is the earlier form)" in page
    assert "`--set tap.alpha_u=0.064/255 --set surrogate.label_smoothing=0.1` is that form" in page
    assert "UEraser's column is of version 1" in page


def test_stored_records_are_sound() -> None:
    folders = [marker.parent for marker in DOCS.parent.glob("benchmarks/*/*/ubench.json")]
    assert folders
    assert [line for folder in folders for line in verify(folder).damaged] == []


def test_no_document_calls_adversarial_training_the_strongest_countermeasure() -> None:
    """The README's own records have JPEG above it for SEM."""
    for page in (DOCS.parent / "README.md", *DOCS.glob("*.md")):
        assert "strongest known" not in page.read_text(encoding="utf-8")
