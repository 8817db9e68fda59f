"""Layers that do less than torch's compute the same."""

import copy
import itertools

import pytest
import torch
from helpers import Tiny, make_harness, random_images
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from unlearnable_bench.harness.folding import Folded
from unlearnable_bench.harness.layers import spare
from unlearnable_bench.registry import learners


def spared(layer: nn.Module) -> nn.Module:
    network = nn.Sequential(copy.deepcopy(layer))
    spare(network)
    return network[0]


def seen(layer: nn.Module) -> list[Tensor]:
    """Return two results, the gradients, and the statistics."""
    found: list[Tensor] = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(4, 6, 5, 7, generator=generator).requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        assert x.grad is not None
        found += [y.detach(), x.grad]
    found += [p.grad for p in layer.parameters() if p.grad is not None]
    return found + [t for t in layer.buffers() if t.is_floating_point()]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_dropout_is_torchs_but_for_what_it_draws(share: float) -> None:
    class Dropping:
        def build(self, classes: int, size: int) -> nn.Module:
            return nn.Sequential(nn.Dropout(share), nn.Flatten(), nn.Linear(3 * size**2, classes))

    harness = make_harness("fp32", learner=Dropping())  # type: ignore[arg-type]
    images = random_images(2)
    first, second = (harness.network(images, stream).network for stream in ("one", "other"))
    dropout, other = (network.get_submodule("0") for network in (first, second))
    x = torch.rand(64, 100) + 1
    torch.manual_seed(0)
    drawn = [dropout(x), dropout(x), other(x)]
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(0)))
    for y in drawn:
        assert abs((y == 0).float().mean() - share) < 0.02
        torch.testing.assert_close(y[y != 0], (x / (1 - share))[y != 0])
    if share != 0.25:
        return
    assert not any(torch.equal(a == 0, b == 0) for a, b in itertools.combinations(drawn, 2))
    again = harness.network(images, "one").network
    assert torch.equal(again.get_submodule("0")(x), drawn[0])
    again.load_state_dict(first.state_dict())  # which knows how much was drawn
    assert torch.equal(again.get_submodule("0")(x), dropout(x))
    assert dropout.eval()(x) is x


@pytest.mark.filterwarnings("default")  # some of torch's own
def test_dropout_is_compiled_with_its_network_and_draws_on() -> None:
    class Dropping(Tiny):
        def build(self, classes: int, size: int) -> nn.Module:
            return nn.Sequential(super().build(classes, size), nn.Dropout(0.5))

    images, x = random_images(4), torch.rand(4, 3, 8, 8)
    one, other = (make_harness("fp32", learner=Dropping()).network(images) for _ in range(2))
    compiled = torch.compile(one._as_built[0], backend="aot_eager", fullgraph=True)
    found = [compiled(x, {}) for _ in range(2)]
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


NORMS = [
    nn.BatchNorm2d(6),
    nn.BatchNorm2d(6, momentum=0.3, eps=1e-2),
    nn.BatchNorm2d(6, momentum=0.0),
    nn.BatchNorm2d(6, affine=False),
    nn.BatchNorm2d(6, track_running_stats=False),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_a_norm_counts_nothing(norm: nn.Module, training: bool) -> None:
    norm = copy.deepcopy(norm).train(training)
    other = spared(norm)
    for found, expected in zip(seen(other), seen(norm), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert list(other.state_dict()) == list(norm.state_dict())
    assert not any(t for t in other.buffers() if not t.is_floating_point())


@pytest.mark.parametrize("size", [1, (1, 1)])
def test_an_average_passes_its_gradient_on_directly(size: int | tuple[int, int]) -> None:
    pool = nn.AdaptiveAvgPool2d(size)
    other = spared(pool)
    for found, expected in zip(seen(other), seen(pool), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)

    def gradient(x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        return torch.autograd.grad(other(x).square().sum(), x)[0]

    graph = make_fx(gradient)(torch.rand(2, 3, 4, 4)).graph
    assert not [node for node in graph.nodes if "as_strided" in str(node.target)]
    torch.testing.assert_close(other(torch.ones(3, 4, 4)), torch.ones(3, 1, 1))


class Stranger(nn.BatchNorm2d):
    pass


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(6, momentum=None),  # a mean over all batches needs their number
        Stranger(6),
        nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveAvgPool2d((1, None)),
        nn.AvgPool2d(2),
    ],
    ids=str,
)
def test_what_is_something_else_stays_as_it_is(layer: nn.Module) -> None:
    assert type(spared(layer)) is type(layer)


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
            assert (int(found), int(expected)) == (0, 1)


def test_linear_layers_are_rounded_once_for_the_gradients_of_a_step() -> None:
    model = make_harness("bf16", learner=Tiny()).network(random_images(4, 8))
    model.eval().requires_grad_(requires_grad=False)
    x = torch.rand(4, 3, 8, 8)
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01)
        found = model(x)
        weights = {p.numel() for p in model.parameters()}
        graph = make_fx(model._in_eval[0])(x).graph
        copies = [n for n in graph.nodes if n.target is torch.ops.aten._to_copy.default]
        assert copies
        assert not weights & {node.meta["tensor_meta"].shape.numel() for node in copies}
        with torch.autocast("cpu", torch.bfloat16):
            expected = model.network(x).float()
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("name", "dtype"), [("small-cnn", torch.float32), ("vit-small", torch.bfloat16)]
)
def test_linear_layers_are_copied_only_to_be_rounded(name: str, dtype: torch.dtype) -> None:
    network = learners.choose(name).plugin.build(3, 32)
    folded = Folded(network, 32, dtype)
    assert bool(folded.layers) == (name == "small-cnn")
    linear = [[m for m in each.modules() if type(m) is nn.Linear] for each in (network, folded)]
    assert linear[0]
    for own, used in zip(*linear, strict=True):
        assert own.weight is used.weight
    assert not folded._rounded
