"""Each architecture has its published size and shape, and learns."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision import models

from unlearnable_bench import Learner
from unlearnable_bench.learners import Normalise
from unlearnable_bench.learners.densenet121 import DenseNet121
from unlearnable_bench.learners.lenet5 import LeNet5
from unlearnable_bench.learners.mlp import MLP2, MLP3, Linear
from unlearnable_bench.learners.mobilenetv2 import MobileNetV2
from unlearnable_bench.learners.resnet18 import ResNet18
from unlearnable_bench.learners.resnet50 import ResNet50
from unlearnable_bench.learners.senet18 import SENet18
from unlearnable_bench.learners.vgg16_bn import VGG16BN
from unlearnable_bench.learners.vit import ViTSmall
from unlearnable_bench.learners.wide_resnet34_10 import WideResNet34x10


@dataclass(frozen=True)
class Case:
    """What is known of an architecture with 10 classes at 32 px.

    Attributes:
        learner: the plugin.
        parameters: their number.
        last: path of the module whose output is pooled.
        shape: of that output, for one image.
    """

    learner: Learner
    parameters: int
    last: str
    shape: tuple[int, ...]


CASES = [
    # The count of the CIFAR ResNet-18 that the field trains.
    Case(ResNet18(), 11_173_962, "1.layer4", (512, 4, 4)),
    # As above.
    Case(ResNet50(), 23_520_842, "1.layer4", (2048, 4, 4)),
    # 138,365,992 of torchvision less its head of 123,642,856, plus a head of 530,442.
    Case(VGG16BN(), 15_253_578, "1", (512, 1, 1)),
    # 7,978,856 of torchvision less 7,680 in the stem and 990 classes.
    Case(DenseNet121(), 6_956_426, "1.features", (1024, 4, 4)),
    # "46.2 M" in the literature on adversarial training.
    Case(WideResNet34x10(), 46_160_474, "6", (640, 8, 8)),
    # 3,504,872 of torchvision less 990 classes.
    Case(MobileNetV2(), 2_236_682, "1.features", (1280, 4, 4)),
    # ResNet-18 plus 2 (2 w w/16 + w/16 + w) for w = 64, 128, 256, 512.
    Case(SENet18(), 11_263_042, "1.layer4", (512, 4, 4)),
    # No published count; 64 patches and the class token.
    Case(ViTSmall(), 2_697_610, "2.encoder", (65, 192)),
    # 3 * 25 * 6 + 6, 6 * 25 * 16 + 16, then 400-120-84-10 with biases.
    Case(LeNet5(), 62_006, "7", (16, 5, 5)),
    # 3072 * 10 + 10.
    Case(Linear(), 30_730, "1", (3072,)),
    # 3072 * 512 + 512 and 512 * 10 + 10.
    Case(MLP2(), 1_578_506, "3", (512,)),
    # As above, and 512 * 512 + 512.
    Case(MLP3(), 1_841_162, "5", (512,)),
    # Those of the MI-UE code: 3072-3072-C, 3072-3072-1536-C, and LeNet-5 of three times the width.
    Case(MLP2(width=3072), 9_470_986, "3", (3072,)),
    Case(MLP3(width=3072, second_width=1536), 14_175_754, "5", (1536,)),
    Case(LeNet5(multiple=3, activation="tanh"), 548_878, "7", (48, 5, 5)),
]

# Of which a layer depends on the size of the images.
SIZED = (ViTSmall, LeNet5, Linear, MLP2, MLP3)

LARGE = [
    # torchvision's own networks, whose counts it publishes for 1000 classes.
    (ResNet18(), 128, 11_689_512),
    (ResNet50(), 128, 25_557_032),
    (VGG16BN(), 128, 138_365_992),
    (DenseNet121(), 224, 7_978_856),
    (MobileNetV2(), 224, 3_504_872),
    # Stems of 7x7 instead of 3x3, and 990 classes more.
    (WideResNet34x10(), 128, 46_160_474 + 16 * 3 * (49 - 9) + 990 * 641),
    (SENet18(), 224, 11_689_512 + 89_080),
    # Patches of 28 px instead of 4 px.
    (ViTSmall(), 224, 2_697_610 + 192 * 3 * (28**2 - 4**2) + 990 * 193),
    # 53x53 instead of 5x5 values a channel before the linear layers, and 990 classes.
    (LeNet5(), 224, 62_006 + 120 * 16 * (53**2 - 5**2) + 990 * 85),
    (Linear(), 64, 1000 * (3 * 64**2 + 1)),
    (MLP2(), 64, 1_578_506 + 512 * 3 * (64**2 - 32**2) + 990 * 513),
    (MLP3(), 64, 1_841_162 + 512 * 3 * (64**2 - 32**2) + 990 * 513),
]

every_learner = pytest.mark.parametrize("case", CASES, ids=lambda c: type(c.learner).__name__)


def build(
    learner: Learner, size: int, classes: int = 10, seed: int = 0, device: str = "cpu"
) -> nn.Module:
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        return learner.build(classes, size)


def images(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def logits_shape(network: nn.Module, size: int) -> tuple[int, ...]:
    """Return the shape for one image, computed on a device without numbers."""
    return tuple(network.eval()(torch.empty(1, 3, size, size, device="meta")).shape)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@every_learner
@torch.no_grad()
def test_the_form_for_32_px(case: Case) -> None:
    """Count of parameters, size of the last feature map, shape of the logits."""
    network = build(case.learner, 32, device="meta")
    seen: list[Tensor] = []
    last = network.get_submodule(case.last)
    last.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    assert logits_shape(network, 32) == (1, 10)
    assert seen[0].shape == (1, *case.shape)
    assert parameters(network) == case.parameters


@every_learner
@pytest.mark.parametrize("size", [28, 64])
@torch.no_grad()
def test_other_small_sizes_keep_the_form(case: Case, size: int) -> None:
    network = build(case.learner, size, classes=7, device="meta")
    assert logits_shape(network, size) == (1, 7)
    if not isinstance(case.learner, SIZED):
        usual = build(case.learner, 32, classes=7, device="meta")
        shapes = {name: w.shape for name, w in usual.state_dict().items()}
        assert {name: w.shape for name, w in network.state_dict().items()} == shapes


@pytest.mark.parametrize(("learner", "size", "count"), LARGE)
@torch.no_grad()
def test_the_form_for_large_images(learner: Learner, size: int, count: int) -> None:
    network = build(learner, size, classes=1000, device="meta")
    assert parameters(network) == count
    assert logits_shape(network, size) == (1, 1000)


def test_resnet18_for_large_images_is_torchvisions() -> None:
    """Also in the order of initialisation, which kept results depend on."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = models.resnet18(num_classes=10).state_dict()
    built = build(ResNet18(), 128, seed=3).state_dict()
    assert list(built) == [f"1.{name}" for name in expected]
    for name, weight in expected.items():
        assert torch.equal(weight, built[f"1.{name}"])


@pytest.mark.parametrize("learner", [ResNet18(), ResNet50(), SENet18()], ids=repr)
def test_convolutions_of_small_resnets_start_as_pytorchs(learner: Learner) -> None:
    """Uniform up to 1/sqrt(fan-in), as the code of EM, REM and SEM leaves them."""
    for layer in build(learner, 32).modules():
        if isinstance(layer, nn.Conv2d):
            bound = (layer.in_channels * math.prod(layer.kernel_size)) ** -0.5
            largest = layer.weight.abs().max().item()
            assert 0.9 * bound < largest < (1 + 1e-6) * bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_vgg16_is_initialised_as_torchvisions() -> None:
    """The variance of each convolution; torchvision's weights come from another draw."""
    expected = models.vgg16_bn(num_classes=10).features.state_dict()
    built = build(VGG16BN(), 32).get_submodule("1").state_dict()
    assert list(built) == list(expected)
    for name, weight in expected.items():
        if weight.dim() == 4:
            assert built[name].std().item() == pytest.approx(weight.std().item(), rel=0.1)
        else:
            assert torch.equal(built[name], weight)


def test_the_small_head_of_vgg16_is_that_of_the_rem_code() -> None:
    """Dropout acts on the 512 pooled features and on the first hidden layer, not on the second."""
    head = list(build(VGG16BN(), 32, device="meta").children())[4:]
    order = [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in head] == order
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    shapes = [(m.in_features, m.out_features) for m in head if isinstance(m, nn.Linear)]
    assert shapes == [(512, 512), (512, 512), (512, 10)]


@every_learner
def test_the_network_shifts_its_input_itself(case: Case) -> None:
    network = build(case.learner, 32)
    assert isinstance(network, nn.Sequential)
    assert isinstance(network[0], Normalise)
    assert torch.equal(network[0](torch.tensor([0.0, 0.5, 1.0])), torch.tensor([-0.5, 0.0, 0.5]))


@every_learner
def test_one_step_changes_every_parameter(case: Case) -> None:
    """And a fresh network has a gradient at its input, for attacks to follow."""
    network = build(case.learner, 16).train()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    x = images(4, 16).requires_grad_()
    cross_entropy(network(x), torch.arange(4)).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert not [n for n, p in network.named_parameters() if torch.equal(p, before[n])]
    assert x.grad is not None
    assert x.grad.abs().amax((1, 2, 3)).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "learner", [ResNet50(), DenseNet121(), WideResNet34x10(), SENet18(), ViTSmall()], ids=repr
)
def test_the_network_compiles_whole(learner: Learner) -> None:
    """One graph and no break, as the harness needs it on a GPU; the others in tests/fast."""
    network = build(learner, 16).eval()
    x = images(2, 16)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))
    torch.compiler.reset()


@pytest.mark.slow
@every_learner
def test_random_images_are_learned_by_heart(case: Case) -> None:
    """16 images with 10 labels; chance gets two of them right."""
    x = images(16, 8)
    y = torch.arange(16) % 10
    network = build(case.learner, 8).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _step in range(300):  # the larger ones need a fifth of it
            optimizer.zero_grad()
            logits = network(x)
            cross_entropy(logits, y).backward()
            optimizer.step()
            right = (logits.argmax(1) == y).float().mean().item()
            if right > 0.95:
                break
    assert right > 0.95
