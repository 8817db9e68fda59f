"""Every method, defense and learner runs with every other, from the plan to the record."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import random_images
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unlearnable_bench import api
from unlearnable_bench.harness import Network, step
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.radius import Radius

TINY = {
    "deep-feature-reweighting.share": "0.4",
    "training.steps": "1",
    "training.batch_size": "4",
    "adversarial.pgd_steps": "1",
    "small-cnn.width": "4",
    "em.batch_size": "4",
    "em.rounds": "1",
    "em.batches": "1",
    "em.noise_steps": "1",
    "orthogonal-projection.steps": "2",
    "ntga.block": "6",
    "ntga.validation": "3",
    "rem.steps": "1",
    "rem.batch_size": "6",
    "rem.samples": "2",
    "rem.noise_steps": "1",
    "rem.attack_steps": "1",
    "sem.steps": "1",
    "sem.batch_size": "6",
    "sem.samples": "2",
    "sem.noise_steps": "1",
    "sem.attack_steps": "1",
    "tap.steps": "1",
}
METHODS = [name for name in registry.attacks.names() if name not in {"clean", "file"}]
# Each takes seconds to build and to train two steps: each once, not with every other.
LARGE = [name for name in registry.learners.names() if name != "small-cnn"]
# On smaller images; their forms for 32 px have tests of their own.
each_large_one = pytest.mark.parametrize(
    ("learner", "data"), [(n, 16) for n in LARGE], indirect=["data"]
)
JOINED = "jpeg+cutout+trades"
# The others train adversarially as `none` does.
RADII = dict.fromkeys(("none", "fgsm", "trades", "mart", JOINED), "4/255") | {"pgd-l2": "128/255"}


# With a mask, these look for its shape on the host.
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal")


class NothingWaits(TorchDispatchMode):
    """Refuses what would break the recording of a CUDA graph, on a CPU too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = [leaf for leaf in tree_leaves(args[1:2]) if getattr(leaf, "dtype", 0) == torch.bool]
        masked = name in INDEXING and masks
        if name in WAITING or masked:
            raise AssertionError(f"{name} in a captured step")
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _captured_steps_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = step.Step.__call__

    def watched(self: step.Step, *inputs: Tensor) -> Any:
        with NothingWaits():
            return plain(self, *inputs)

    monkeypatch.setattr(step.Step, "__call__", watched)


@pytest.fixture(autouse=True)
def _only_captured_steps_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere a network is seldom evaluated, and its compilation would count as work."""
    plain = Network.forward

    def watched(self: Network, x: Tensor) -> Tensor:
        assert step.current_step() is not None
        return plain(self, x)

    monkeypatch.setattr(Network, "forward", watched)


@pytest.fixture(scope="module", params=[32])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    size: int = request.param
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    images, test = random_images(12, size, 4), random_images(3, size, 4, seed=1)
    names = np.array(["ant", "bee", "cat", "dog"])
    arrays = {"x_train": images.images, "y_train": images.labels, "class_names": names}
    np.savez(path, x_test=test.images, y_test=test.labels, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "grid"


def run(data: str, out: Path, **asked: Any) -> None:
    taken = {*asked["methods"], *asked.get("defenses", []), "small-cnn", "training"}
    taken |= {"adversarial"} if any(asked.get("rho_a", ())) else set()
    settings = {key: value for key, value in TINY.items() if key.split(".")[0] in taken}
    if asked.get("defenses") == ["fgsm"]:  # one step, so that a number of steps has no effect
        del settings["adversarial.pgd_steps"]
    noise = out.parent / "noise.npy"
    if "file" in asked["methods"]:
        np.save(noise, np.full((12, 32, 32, 3), 3, np.int8))
        asked["methods"] = [f"file:{noise}" if m == "file" else m for m in asked["methods"]]
    plan = make_plan(dataset=data, preset="smoke", settings=settings, **asked)
    summary = api.run(plan, out, device="cpu")
    assert [f"{f.cell.name}: {f.reason}" for f in summary.failures] == []
    frame = api.load_records(out, [cell.key for cell in plan.cells])
    assert len(frame) == len(plan.cells)
    assert all(math.isfinite(value) for value in frame["test_accuracy"])


# `purified` needs a file of another program.
@pytest.mark.parametrize("defense", [*sorted({*registry.defenses.names()} - {"purified"}), JOINED])
def test_every_defense_takes_every_method(data: str, out: Path, defense: str) -> None:
    rho_a = [Radius(RADII.get(defense, "0"))]
    run(data, out, methods=[*METHODS, "file"], defenses=[defense], rho_a=rho_a, clean=False)


@each_large_one
def test_every_learner_learns_from_a_poison_and_resists(data: str, out: Path, learner: str) -> None:
    radii = [Radius("0"), Radius("4/255")]
    run(data, out, methods=["random"], learners=[learner], rho_a=radii, clean=False)


@each_large_one
def test_every_learner_makes_noise(data: str, out: Path, learner: str) -> None:
    run(data, out, methods=["em"], surrogate=learner, clean=False)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_protects_a_part(data: str, out: Path, method: str) -> None:
    run(data, out, methods=[method], protect=[0.5], protect_classes=["ant", "cat"])
