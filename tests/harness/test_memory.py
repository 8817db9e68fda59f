"""Large batches are computed in parts, with the same result; too much noise is refused."""

from typing import Any

import attack_checks
import pytest
import torch
from helpers import Pooled, make_harness, random_images
from torch import nn

from unlearnable_bench import Attack, Harness, Radius, UserError
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.attacks.gue import GUE
from unlearnable_bench.attacks.hypo import HYPO
from unlearnable_bench.attacks.rem import REM
from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.attacks.tap import TAP
from unlearnable_bench.harness import input_gradient, memory
from unlearnable_bench.harness.memory import activations, free_memory, max_batch, zero_noise
from unlearnable_bench.planning.registry import learners


def test_activations_are_what_the_backward_pass_needs() -> None:
    # The convolution keeps its input, 3 x 6 x 6, the sigmoid its output, 4 x 6 x 6.
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid())
    assert activations(network, 6) == (3 + 4) * 36
    # The second sigmoid keeps its own.
    assert activations(network.append(nn.Sigmoid()), 6) == (3 + 4 + 4) * 36


def test_counting_leaves_the_network_alone() -> None:
    network = learners.choose("small-cnn").plugin.build(10, 32)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    activations(network, 32)
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


@pytest.mark.parametrize("name", learners.names())
def test_every_learner_can_be_counted_and_grows_with_the_image(name: str) -> None:
    learner = learners.choose(name).plugin
    counted = [activations(learner.build(10, size), size) for size in (32, 64)]
    if name == "linear":  # its gradient needs the weights only
        assert counted == [0, 0]
    elif "mlp" in name:  # the hidden layers, which are as wide for any image
        assert 0 < counted[0] == counted[1]
    else:
        assert 0 < counted[0] < counted[1]
    assert activations(learner.build(10, 32).double(), 32) == counted[0]


def test_the_limit_follows_memory_and_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total_memory = 64 * 7 * 36 * 4 * 10

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: Card)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid())
    device = torch.device("cuda:0")
    assert max_batch(network, 6, device, itemsize=4) == 160
    assert max_batch(network, 6, device, itemsize=2) == 320
    assert max_batch(network, 6, device, itemsize=1 << 40) == 1
    linear = nn.Sequential(nn.Flatten(), nn.Linear(108, 2))
    assert max_batch(linear, 6, device, itemsize=4) >= 160


@pytest.mark.parametrize("max_batch_", [1, 2, 4, 5, 6, 100])
@pytest.mark.parametrize("soft", [False, True])
def test_parts_have_the_gradient_of_the_whole(*, max_batch_: int, soft: bool) -> None:
    images, harness = random_images(6), make_harness()
    pixels, y = harness.tensors(images)
    model, x = harness.network(images), harness.unit(pixels)
    if soft:
        y = torch.softmax(torch.randn(6, 3, dtype=torch.float64), 1)
    whole = input_gradient(model, x, y)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _model, args: seen.append(len(args[0])))
    model.max_batch = max_batch_
    torch.testing.assert_close(input_gradient(model, x, y), whole, rtol=1e-12, atol=1e-15)
    assert max(seen) <= max_batch_
    assert sum(seen) == 6
    seen.clear()
    wrapped = input_gradient(nn.Sequential(model), x, y)
    torch.testing.assert_close(wrapped, whole, rtol=1e-12, atol=1e-15)
    assert max(seen) <= max_batch_


def test_noise_made_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    attack = SEM(steps=3, batch_size=10, noise_steps=2, attack_steps=2, samples=2)
    whole = attack.generate(random_images(), make_harness())
    make = Harness.network

    def network(self: Harness, *args: Any, **more: Any) -> nn.Module:
        model = make(self, *args, **more)
        model.max_batch = 7
        return model

    monkeypatch.setattr(Harness, "network", network)
    assert (attack.generate(random_images(), make_harness()).images == whole.images).all()


IMAGENET = torch.Size([129_395, 3, 256, 256])


@pytest.mark.parametrize(
    ("dtype", "copies", "size"),
    [(torch.float32, 1, "101.8"), (torch.int16, 1, "50.9"), (torch.int16, 2, "101.8")],
)
def test_noise_that_does_not_fit_is_refused_with_its_size(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, copies: int, size: str
) -> None:
    """129,395 images of 3 x 256 x 256 values of 4 or 2 bytes."""
    monkeypatch.setattr(memory, "free_memory", lambda _: 24_000_000_000)
    with pytest.raises(UserError) as refused:
        zero_noise(IMAGENET, dtype, torch.device("cpu"), copies)
    assert str(refused.value) == (
        f"the noise of 129,395 images of 256 px takes {size} GB of the GPU's memory, of which "
        "24.0 GB are free; use fewer or smaller images, such as --set imagenet-subset.classes=20"
    )


def test_noise_that_fits_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = torch.Size([2, 3, 4, 4])
    monkeypatch.setattr(memory, "free_memory", lambda _: 2 * 2 * 3 * 4 * 4)
    noise = zero_noise(shape, torch.int16, torch.device("cpu"))
    assert (noise.shape, noise.dtype, int(noise.abs().sum())) == (shape, torch.int16, 0)
    with pytest.raises(UserError):
        zero_noise(shape, torch.int16, torch.device("cpu"), copies=2)


@pytest.mark.parametrize(
    "attack",
    [EM(), EM(variant="misaligned"), REM(), SEM(), TAP()],
    ids=["em", "em misaligned", "rem", "sem", "tap"],
)
def test_attacks_refuse_before_their_first_step(
    monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: 100)
    harness = make_harness()
    harness.training = attack_checks.CLEAN_TRAINING
    monkeypatch.setattr(harness, "loop", None)
    with pytest.raises(UserError, match=r"the noise of 25 images of 8 px takes 0\.0 GB"):
        attack.generate(random_images(), harness)


@pytest.mark.parametrize(
    ("attack", "size"),
    [
        (EM(variant="misaligned"), 1),
        (REM(), 1),
        (SEM(), 1),
        (SEM(rho_u=Radius("126/255")), 1),
        (SEM(rho_u=Radius("127/255")), 2),
        (TAP(), 1),
        (HYPO(), 1),
        (HYPO(norm=4.0), 2),
        (GUE(), 1),
    ],
)
def test_noise_in_whole_levels_takes_the_memory_of_the_images(
    monkeypatch: pytest.MonkeyPatch, attack: Attack, size: int
) -> None:
    """A byte for each value; two if the noise of a value may reach 128 levels."""
    harness, kept = make_harness(learner=Pooled()), {}
    harness.training = attack_checks.CLEAN_TRAINING

    def keep(**state: Any) -> None:
        kept.update(state)
        raise KeyboardInterrupt

    monkeypatch.setattr(harness, "keep", keep)
    images = random_images()
    with pytest.raises(KeyboardInterrupt):
        attack.generate(images, harness)
    assert kept["noise"].nbytes == size * images.images.nbytes


def test_restarts_of_tap_hold_the_best_noise_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: 2 * 25 * 8 * 8 * 3 - 1)
    harness = make_harness()
    harness.training = attack_checks.CLEAN_TRAINING
    TAP(steps=1).generate(random_images(), harness)
    with pytest.raises(UserError, match="the noise of 25 images"):
        TAP(steps=1, restarts=2).generate(random_images(), harness)


def test_the_memory_of_a_cpu_is_not_checked() -> None:
    assert free_memory(torch.device("cpu")) is None
