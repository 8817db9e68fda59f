"""In eval mode BatchNorm is folded into convolutions: the same numbers from the same weights."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import Tiny, make_harness, random_images
from torch import Tensor, nn
from torch._functorch._aot_autograd.autograd_cache import check_cacheable
from torch.fx import GraphModule
from torch.nn import functional

from unlearnable_bench import Learner
from unlearnable_bench.fast.compiler import Compiler
from unlearnable_bench.fast.convolutions import FasterConvolutions
from unlearnable_bench.fast.folding import Folded
from unlearnable_bench.harness import frozen, input_gradient, sgd
from unlearnable_bench.harness.acceleration import acceleration
from unlearnable_bench.learners.small_cnn import SmallCNN
from unlearnable_bench.planning.registry import learners
from unlearnable_bench.running.training import accuracy

FOLDED = {
    "resnet8": 9,
    "resnet18": 20,
    "resnet50": 53,
    "vgg16-bn": 13,
    "densenet121": 59,
    "wrn-34-10": 16,
}
FOLDED |= {"mobilenetv2": 52, "senet18": 20, "small-cnn": 3, "vit-small": 0}
FOLDED |= {"lenet5": 0, "linear": 0, "mlp2": 0, "mlp3": 0}


def stir(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every BatchNorm statistics and weights that count."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 1.5, generator=generator)
    return network.double()


def folded(network: nn.Module, size: int) -> Folded:
    """Return the network as eval mode computes it, ready."""
    other = Folded(network, size, torch.float64)
    other.refresh()
    return other


@pytest.mark.parametrize("name", learners.names())
def test_every_learner_computes_the_same(name: str) -> None:
    network = stir(learners.choose(name).plugin.build(10, 16))
    other = folded(network, 16)
    assert len(other.layers) == FOLDED[name]
    assert all(module.training for module in network.modules())
    network.eval()
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
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
    assert len(other.layers) == folds
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


class Rectified(nn.BatchNorm2d):
    """A BatchNorm that does more than one."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(super().forward(x))


def hooked(at: int) -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network[at].register_forward_hook(lambda _module, _x, result: functional.relu(result))
    return network


def weight_normed() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        convolution = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(convolution, nn.BatchNorm2d(4))


@pytest.mark.parametrize(
    "network",
    [nn.Sequential(nn.Conv2d(3, 4, 3), Rectified(4)), hooked(0), hooked(1), weight_normed()],
    ids=["subclass", "hooked convolution", "hooked norm", "weight norm"],
)
def test_layers_that_do_more_than_their_type_are_left_alone(network: nn.Module) -> None:
    assert not Folded(network, 9, torch.float64).layers


@pytest.mark.parametrize(
    "network",
    [Branching(), Twice(convolution=True), Twice(convolution=False), Weighing(), nn.Flatten()],
    ids=lambda network: type(network).__name__,
)
def test_what_cannot_be_folded_stays_as_it_is(network: nn.Module) -> None:
    assert not Folded(network, 9, torch.float64).layers
    assert all(module.training for module in network.modules())


def test_modes_and_second_names_are_respected() -> None:
    network = stir(Moody())
    other = folded(network, 9)
    assert len(other.layers) == 1
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


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in a thread of autograd's"])
def test_it_follows_an_update_within_a_step(*, elsewhere: bool) -> None:
    images, harness = random_images(6, size=16), make_harness(learner=Tiny())
    model = harness.network(images)
    optimizer = sgd(model, lr=0.5)  # fused, which counts no versions

    def step(x: Tensor, y: Tensor) -> list[Tensor]:
        loss = functional.cross_entropy(model(x), y)
        gradients = [input_gradient(model, x, y)]
        loss.backward()
        if elsewhere:  # as a hook of a gradient is, on a GPU
            with ThreadPoolExecutor(1) as pool:
                pool.submit(optimizer.step).result()
        else:
            optimizer.step()
        return [*gradients, input_gradient(model, x, y)]

    pixels, y = harness.tensors(images)
    x = harness.unit(pixels)
    before, after = harness.capture(step)(x, y)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, input_gradient(model, x, y))


@pytest.mark.filterwarnings("default")  # some of torch's own
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "vgg16-bn"])
def test_both_forms_compile_whole(name: str) -> None:
    model = make_harness("fp32", learner=learners.choose(name).plugin).network(random_images(2, 16))
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    with frozen(model):
        expected = model(x)
    for part in (*model._as_built, *model._in_eval):
        compiled = torch.compile(part, backend="aot_eager", fullgraph=True)
        found = compiled(x)
        torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("default")  # some of torch's own
def test_what_is_compiled_is_cached_for_later_processes() -> None:
    seen = []

    def compiler(graph: GraphModule, _: list[Tensor]) -> Callable[..., object]:
        check_cacheable(graph)  # raises what would make torch trace it anew
        seen.append(graph)
        return graph.forward

    model = make_harness("bf16", learner=SmallCNN()).network(random_images(4, 32))
    x = torch.rand(4, 3, 32, 32, requires_grad=True)
    torch.compile(model._as_built[0], backend=compiler, fullgraph=True)(x)
    torch.compile(model._in_eval[0], backend=compiler, fullgraph=True)(x)
    assert len(seen) == 2


@pytest.mark.filterwarnings("default")  # some of torch's own
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_is_compiled_serves_all_networks_of_a_kind(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Else each cell of a long run would trace anew, and those after the limit run slowly."""
    graphs = []

    def compiler(graph: GraphModule, *_: object, **__: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()  # of what any test before compiled
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", compiler)
    path = acceleration(torch.device("cpu"))
    monkeypatch.setattr(path, "_compiler", Compiler(FasterConvolutions()))
    for seed in range(3):
        harness = make_harness(precision, seed=seed, learner=SmallCNN(width=3))
        model = harness.network(random_images(4, 32))
        stir(model.network, seed).float()
        x, y = torch.rand(4, 3, 32, 32), torch.arange(4) % 3
        with torch.no_grad():
            assert torch.equal(model(x), model.uncompiled(x))
        compiled = input_gradient(model, x, y)
        with torch.compiler.set_stance("force_eager"):
            assert torch.equal(compiled, input_gradient(model, x, y))
        assert len(graphs) == 2


def test_gradients_of_weights_in_eval_mode_are_those_of_the_network() -> None:
    """What fine-tunes with frozen statistics must not meet weights that are constants."""
    images, harness = random_images(6), make_harness()
    model = harness.network(images)
    x = torch.rand(6, 3, 8, 8, dtype=torch.float64)
    model.eval()(x).square().sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in model.parameters())


def test_weights_are_folded_once_for_the_gradients_of_a_captured_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, harness = random_images(6), make_harness()
    model = harness.network(images)
    pixels, y = harness.tensors(images)
    x, folds = harness.unit(pixels), []
    plain = Folded.refresh
    monkeypatch.setattr(Folded, "refresh", lambda self: folds.append(1) or plain(self))

    def step() -> None:
        for _ in range(3):
            input_gradient(model, x, y)

    captured = harness.capture(step)
    captured()
    assert len(folds) == 1
    captured()  # weights may have changed by a replay, which tells nobody
    assert len(folds) == 2
    step()
    assert len(folds) == 5
    accuracy(model, pixels, y, batch=2)
    assert len(folds) == 6


@pytest.mark.parametrize("change", ["weights", "statistics"])
def test_a_change_within_a_captured_step_is_seen(change: str) -> None:
    images, harness = random_images(6), make_harness()
    model = harness.network(images)
    pixels, y = harness.tensors(images)
    x, found = harness.unit(pixels), []

    def step() -> None:
        for _ in range(2):
            found.append(input_gradient(model, x, y))
            if change == "weights":
                with torch.no_grad():
                    next(model.parameters()).mul_(1.5)
            else:
                model.train()(x)
                model.eval()
        plain = copy.deepcopy(model.network).eval()
        leaf = x.clone().requires_grad_()
        loss = functional.cross_entropy(plain(leaf), y, reduction="sum")
        found.append(torch.autograd.grad(loss, leaf)[0])
        found.append(input_gradient(model, x, y))

    harness.capture(step)()
    assert not torch.allclose(found[0], found[1])
    torch.testing.assert_close(found[3], found[2], rtol=1e-9, atol=1e-12)
