"""Layers of a network on the fast path compute what those of torch do."""

import pytest
import torch
from helpers import Tiny, make_harness, random_images
from torch import nn
from torch.nn import functional

from unlearnable_bench.planning.registry import learners


@pytest.mark.filterwarnings("default")  # some of torch's own
def test_dropout_is_compiled_with_its_network_and_draws_on() -> None:
    class Dropping(Tiny):
        def build(self, classes: int, size: int) -> nn.Module:
            return nn.Sequential(super().build(classes, size), nn.Dropout(0.5))

    images, x = random_images(4), torch.rand(4, 3, 8, 8)
    one, other = (make_harness("fp32", learner=Dropping()).network(images) for _ in range(2))
    compiled = torch.compile(one._as_built[0], backend="aot_eager", fullgraph=True)
    found = [compiled(x) for _ in range(2)]
    assert not torch.equal(*found)
    for y in found:
        torch.testing.assert_close(y, other(x))


@pytest.mark.filterwarnings("default")  # some of torch's own
def test_a_compiled_backward_pass_drops_what_the_forward_pass_dropped() -> None:
    class Dropping:
        def build(self, classes: int, size: int) -> nn.Module:
            values = 3 * size**2
            hidden = nn.Linear(values, 64), nn.ReLU(), nn.Dropout(0.5)
            return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, classes))

    images, x = random_images(4), torch.rand(4, 3, 8, 8)
    harness = make_harness("fp32", learner=Dropping())  # type: ignore[arg-type]
    one, other = (harness.network(images).train() for _ in range(2))
    # With the compiler's choice of what the backward pass computes anew.
    backend = "aot_eager_decomp_partition"
    one._as_built[0].compile(backend=backend, fullgraph=True)
    for network in (one, other):
        loss = network(x).square().sum() + network(1 - x).square().sum()
        loss.backward()
    for (name, found), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=name)


@pytest.mark.parametrize("name", ["resnet18", "vit-small"])
def test_a_learner_in_the_harness_is_the_learner_as_built(name: str) -> None:
    learner = learners.choose(name).plugin
    model = make_harness("fp64", learner=learner).network(random_images(4, 32))
    plain = learner.build(3, 32).double()
    plain.load_state_dict(model.network.state_dict())
    x = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    for network in (model, plain):
        functional.cross_entropy(network(x), torch.arange(4) % 3).backward()
    named = dict(plain.named_parameters())
    for key, parameter in model.network.named_parameters():
        gradient = named[key].grad
        rounding = 1e-12 * float(gradient.abs().max())  # of sums, whose terms may cancel
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=rounding)
    for found, expected in zip(model.network.buffers(), plain.buffers(), strict=True):
        if found.is_floating_point():
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
        else:
            assert int(found) == int(expected) == 1
