"""Initial weights are a function of seed and stream, whatever other threads draw."""

import threading
import time
from collections.abc import Callable

import pytest
import torch
from helpers import Tiny, make_harness
from torch import Tensor, nn

from unlearnable_bench.attacks._unet import UNet
from unlearnable_bench.defenses._vae import DVAENetwork
from unlearnable_bench.harness.device import EXCLUSIVE
from unlearnable_bench.harness.initialisation import OwnDraws
from unlearnable_bench.planning.registry import REGISTRIES

LEARNERS = REGISTRIES["learners"]
BUILDS: dict[str, Callable[[], nn.Module]] = {
    **{n: lambda n=n: LEARNERS.choose(n, {}).plugin.build(10, 32) for n in LEARNERS.names()},
    "U-Net": lambda: UNet(8),
    "D-VAE": lambda: DVAENetwork(10, 16, 8, 16),
}


def drawn_elsewhere() -> None:
    """Draw from torch's global generator in another thread."""
    thread = threading.Thread(target=torch.rand, args=(3,))
    thread.start()
    thread.join()


@pytest.mark.parametrize("name", BUILDS)
def test_weights_are_those_of_the_global_generator_with_the_seed(name: str) -> None:
    torch.manual_seed(5)
    expected = BUILDS[name]().state_dict()
    torch.manual_seed(6)
    drawn_elsewhere()
    state = torch.random.get_rng_state()
    with OwnDraws(5):
        found = BUILDS[name]().state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_draws_of_other_threads_do_not_change_weights() -> None:
    def alone() -> Tensor:
        return torch.cat([nn.Linear(2, 2).weight.detach(), torch.rand(2, 2), torch.randn(2, 2)])

    def beside_others() -> Tensor:
        drawn_elsewhere()
        return alone()

    harness, before = make_harness(), torch.random.get_rng_state()
    expected = harness.seeded(alone, "a")
    assert torch.equal(expected, harness.seeded(beside_others, "a"))
    assert not torch.equal(expected, harness.seeded(alone, "b"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_plugin_may_seed_its_own_weights() -> None:
    def build() -> Tensor:
        first = nn.Linear(2, 2).weight.detach()
        torch.manual_seed(3)
        return torch.cat([first, nn.Linear(2, 2).weight.detach(), torch.randn(1, 2)])

    torch.manual_seed(3)
    expected = torch.cat([nn.Linear(2, 2).weight.detach(), torch.randn(1, 2)])
    one, other = (make_harness(seed=seed).seeded(build, "a") for seed in (0, 1))
    assert torch.equal(one[2:], expected)
    assert torch.equal(other[2:], expected)
    assert not torch.equal(one[:2], other[:2])


def test_waiting_for_another_cell_is_no_work() -> None:
    harness = make_harness(learner=Tiny())
    thread = threading.Thread(target=lambda: harness.seeded(lambda: nn.Linear(2, 2), "a"))
    with EXCLUSIVE:
        thread.start()
        time.sleep(0.5)
    thread.join()
    assert harness.times["warmup"] > 0.4
    assert harness.times["work"] < 0.4
