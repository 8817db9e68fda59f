"""In eval mode BatchNorm is folded into convolutions: the same numbers from the same weights."""

import copy

import pytest
import torch
from helpers import Tiny, make_harness, random_images
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Learner
from unlearnable_bench.harness import frozen, input_gradient
from unlearnable_bench.harness.folding import _Folded, folded
from unlearnable_bench.registry import learners

FOLDED = {"resnet18": 20, "resnet50": 53, "vgg16-bn": 13, "densenet121": 59, "wrn-34-10": 16}
FOLDED |= {"mobilenetv2": 52, "senet18": 20, "small-cnn": 3, "vit-small": 0}


def stir(network: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and weights that count."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 1.5, generator=generator)
    return network.double()


def count(network: nn.Module) -> int:
    return sum(isinstance(module, _Folded) for module in network.modules())


@pytest.mark.parametrize("name", learners.names())
def test_every_learner_computes_the_same(name: str) -> None:
    network = stir(learners.choose(name).plugin.build(10, 32))
    other = folded(network, 32)
    assert count(other) == FOLDED[name]
    assert all(module.training for module in network.modules())
    network.eval()
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(other(x), network(x), rtol=1e-12, atol=1e-12)


def norm(channels: int, **options: bool) -> nn.Module:
    return nn.BatchNorm2d(channels, **options)


@pytest.mark.parametrize(
    ("layers", "folds"),
    [
        ([nn.Conv2d(3, 4, 3), norm(4)], 1),
        ([nn.Conv2d(3, 4, 3, bias=False), norm(4)], 1),
        ([nn.Conv2d(3, 6, 3, groups=3, stride=2, dilation=2), norm(6, affine=False)], 1),
        ([nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), norm(4)], 1),
        ([nn.Conv2d(3, 4, 3), norm(4), norm(4)], 1),
        ([nn.Conv2d(3, 4, 3), nn.ReLU(), norm(4)], 0),
        ([nn.Conv2d(3, 4, 3), norm(4, track_running_stats=False)], 0),
        ([norm(3), nn.Conv2d(3, 4, 3)], 0),
    ],
    ids=str,
)
def test_each_kind_of_pair(layers: list[nn.Module], folds: int) -> None:
    network = stir(nn.Sequential(*layers))
    other = folded(network, 9)
    assert count(other) == folds
    network.eval()
    x = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(other(x), network(x), rtol=1e-12, atol=1e-12)


class Branching(nn.Module):
    """A convolution whose output is also read before its BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        found = self.convolution(x)
        normed: Tensor = self.norm(found)
        return normed + found


class Twice(nn.Module):
    """One convolution, and one BatchNorm, of which either is used twice."""

    def __init__(self, *, convolution: bool) -> None:
        super().__init__()
        self.convolution, self.norm, self.both = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), convolution

    def forward(self, x: Tensor) -> Tensor:
        if self.both:
            x = self.convolution(x)
        normed: Tensor = self.norm(self.convolution(x))
        return normed if self.both else self.norm(normed)


class Weighing(nn.Module):
    """Asks a layer for its weight, which the folded one does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.convolution(x))
        return normed * self.convolution.weight.norm()


class Moody(nn.Module):
    """Functional dropout, which asks for the mode; a layer that has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.first = self.convolution

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.norm(self.first(x)), 0.5, self.training)


@pytest.mark.parametrize(
    "network",
    [Branching(), Twice(convolution=True), Twice(convolution=False), Weighing(), nn.Flatten()],
    ids=lambda network: type(network).__name__,
)
def test_what_cannot_be_folded_stays_as_it_is(network: nn.Module) -> None:
    assert folded(network, 9) is network
    assert all(module.training for module in network.modules())


def test_modes_and_second_names_are_respected() -> None:
    network = stir(Moody())
    other = folded(network, 9)
    assert count(other) == 1
    network.eval()
    x = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(other(x), network(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "learner", [Tiny(), learners.choose("resnet18").plugin], ids=["tiny", "r18"]
)
def test_it_follows_every_update_and_adds_no_weights(learner: Learner) -> None:
    images, harness = random_images(6, size=16), make_harness(learner=learner)
    model = harness.network(images)
    pixels, y = harness.tensors(images)
    x = harness.unit(pixels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        plain = copy.deepcopy(model.network).eval()
        leaf = x.clone().requires_grad_()
        loss = functional.cross_entropy(plain(leaf), y, reduction="sum")
        (expected,) = torch.autograd.grad(loss, leaf)
        torch.testing.assert_close(input_gradient(model, x, y), expected, rtol=1e-9, atol=1e-12)
    assert list(model.state_dict()) == [f"network.{k}" for k in model.network.state_dict()]
    assert len(list(model.parameters())) == len(list(model.network.parameters()))


def test_it_compiles_whole() -> None:
    harness = make_harness("fp32", learner=learners.choose("resnet18").plugin)
    model = harness.network(random_images(4, size=16))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.rand(4, 3, 16, 16)
    with frozen(model):
        torch.testing.assert_close(compiled(x), model(x))
    torch.testing.assert_close(compiled(x).shape, model(x).shape)
