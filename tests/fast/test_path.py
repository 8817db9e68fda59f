"""The door of the fast path: what it installs, what it does without, and what it costs nobody."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import Tiny, make_harness, random_images
from torch import nn

from unlearnable_bench import UserError
from unlearnable_bench.fast import TECHNIQUES, accelerate, path
from unlearnable_bench.fast.network import FastNetwork
from unlearnable_bench.harness import Network
from unlearnable_bench.harness.acceleration import install

CPU = torch.device("cpu")


@pytest.mark.parametrize("eager", [True, False])
def test_an_eager_harness_does_not_use_it(*, eager: bool) -> None:
    harness = make_harness(learner=Tiny())
    harness.eager = eager
    model = harness.network(random_images(2)).eval()
    assert isinstance(model, FastNetwork) != eager
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    calls: list[None] = []
    norm.register_forward_hook(lambda *_: calls.append(None))
    with torch.no_grad():
        model(torch.rand(2, 3, 8, 8, dtype=torch.float64))
    assert len(calls) == eager


def test_without_it_a_network_is_a_plain_one() -> None:
    install("cpu", None)
    assert type(make_harness(learner=Tiny()).network(random_images(2))) is Network


def test_a_technique_is_left_out_on_request() -> None:
    assert accelerate(CPU) == {"fold"}
    assert not accelerate(CPU, ["fold"])
    model = make_harness(learner=Tiny()).network(random_images(2))
    assert not model._folded
    with pytest.raises(UserError, match="unknown technique 'folding'; did you mean 'fold'"):
        accelerate(CPU, ["folding"])


@pytest.mark.parametrize("need", sorted({need for needs in TECHNIQUES.values() for need in needs}))
def test_a_torch_that_lacks_something_is_slower_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, need: str
) -> None:
    def find(name: str) -> None:
        if name == need:
            raise AttributeError(name)

    monkeypatch.setattr(path, "_find", find)
    install("cuda", None)
    device = torch.device("cuda")
    try:
        with pytest.warns(UserWarning, match=f"needs {need}"):
            techniques = accelerate(device)
        assert accelerate(device) == techniques
    finally:
        install("cuda", None)
    assert not [name for name in techniques if need in TECHNIQUES[name]]
    if need.startswith("torch.utils._python_dispatch"):
        assert techniques == {*TECHNIQUES} - {"fold"}


def test_every_need_is_a_thing_of_this_torch() -> None:
    assert {path._lacking(name) for name in TECHNIQUES} == {""}
    with pytest.raises(AttributeError):
        path._find("torch.utils.no_such_thing")
    with pytest.raises(ModuleNotFoundError):
        path._find("no_such_package.thing")


LIGHT = """
import sys
import {module}
heavy = [m for m in sys.modules if m.split(".")[0] == "triton" or m.startswith("torch._inductor")]
assert not heavy, heavy
assert not [m for m in sys.modules if m.startswith("unlearnable_bench.fast")]
"""


@pytest.mark.parametrize(
    "module",
    [
        "unlearnable_bench.harness",
        "unlearnable_bench.api",
        "unlearnable_bench.screen.console",
        "unlearnable_bench.attacks.sem",
        "unlearnable_bench.attacks.tap",
        "unlearnable_bench.timing.bench",
    ],
)
def test_nothing_else_loads_the_compiler(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIGHT.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
