"""Pooled features are what the head reads, and follow the weights of their network."""

from typing import Any

import pytest
import torch
from helpers import Linear, Pooled, Tiny, make_harness, random_images
from torch import nn
from torch.nn import functional

from unlearnable_bench import Learner, UserError
from unlearnable_bench.harness import refuse_featureless, sgd
from unlearnable_bench.learners.lenet5 import LeNet5
from unlearnable_bench.learners.mlp import MLP3
from unlearnable_bench.learners.mobilenetv2 import MobileNetV2
from unlearnable_bench.learners.resnet18 import ResNet18
from unlearnable_bench.learners.small_cnn import SmallCNN
from unlearnable_bench.learners.vgg16_bn import VGG16BN
from unlearnable_bench.learners.vit import ViTSmall


@pytest.mark.parametrize(
    ("learner", "width"),
    [
        (ResNet18(), 512),
        (VGG16BN(), 512),
        (MobileNetV2(), 1280),
        (ViTSmall(), 192),
        (LeNet5(), 84),
        (MLP3(width=40), 40),
        (SmallCNN(), 64),
    ],
    ids=repr,
)
@torch.no_grad()
def test_the_head_maps_features_to_logits(learner: Learner, width: int) -> None:
    images, harness = random_images(4, size=16), make_harness("fp32", learner=learner)
    model = harness.network(images)
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    features = harness.features(model)(x)
    assert features.shape == (3, width)
    head = learner.head(model.network)
    assert head is not None
    torch.testing.assert_close(head(features), model.eval()(x))


def test_features_follow_the_weights_and_statistics() -> None:
    images, harness = random_images(), make_harness(learner=Pooled())
    model = harness.network(images)
    features = harness.features(model)
    pixels, labels = harness.tensors(images)
    x, optimizer = harness.unit(pixels), sgd(model, lr=0.5)
    functional.cross_entropy(model(x), labels).backward()
    optimizer.step()
    assert model.training
    assert not features.training
    with torch.no_grad():
        found = features(x)
        conv, norm, relu, pool, flat, _ = model.eval().network.children()
        torch.testing.assert_close(found, flat(pool(relu(norm(conv(x))))), rtol=0, atol=0)


class TwoHeads(Pooled):
    def head(self, network: nn.Module) -> nn.Module:
        return nn.Linear(16, 3)


class Unpooled(Pooled):
    """Linear layers at each place of a map: their input is no vector."""

    def build(self, classes: int, size: int) -> nn.Module:
        return nn.Linear(size, classes)


class Headless(Pooled):
    def build(self, classes: int, size: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, classes, size), nn.Flatten())


@pytest.mark.parametrize("learner", [Tiny(), Linear(), TwoHeads(), Unpooled(), Headless()])
def test_other_networks_are_refused(learner: Any) -> None:
    name = type(learner).__name__
    with pytest.raises(UserError, match=rf"^{name} gives no pooled features.* override `head`"):
        refuse_featureless(learner, 3, 8)


def test_a_plugin_can_name_its_head() -> None:
    class Own(Tiny):
        """The gain behind the linear layer is a part of the head."""

        def build(self, classes: int, size: int) -> nn.Module:
            *body, linear, gain = super().build(classes, size).children()
            return nn.Sequential(*body, nn.Sequential(linear, gain))

        def head(self, network: nn.Module) -> nn.Module:
            return network.get_submodule("5")

    images, harness = random_images(), make_harness(learner=Own())
    features = harness.features(harness.network(images))
    assert features(torch.zeros(2, 3, 8, 8, dtype=torch.float64)).shape == (2, 64)


def test_a_refusal_does_not_draw_from_torchs_generator() -> None:
    before = torch.random.get_rng_state()
    refuse_featureless(Pooled(), 3, 8)
    assert torch.equal(before, torch.random.get_rng_state())
