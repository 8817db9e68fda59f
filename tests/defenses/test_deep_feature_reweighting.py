"""Deep feature reweighting: scikit-learn's regression, and a learner that it repairs."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Tiny, make_harness, random_images
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from unlearnable_bench import Defense, ImageSet, Learner, Radius, Random, UserError
from unlearnable_bench.defenses.deep_feature_reweighting import (
    DeepFeatureReweighting,
    inputs_of,
    logistic_regression,
    renew_statistics,
)
from unlearnable_bench.learners.resnet8 import ResNet8
from unlearnable_bench.planning.composition import compose
from unlearnable_bench.running.training import accuracy, train
from unlearnable_bench.schedule import Training


def test_the_regression_equals_scikit_learns() -> None:
    random = Random(0, "features")
    features = random.normal(60, 5).double() * torch.tensor([1, 3, 0.2, 1, 0]) + 2
    labels = random.integers(3, 60)
    weight, bias = logistic_regression(features, labels, 3, weight_decay=0.01)
    scale = features.std(0, correction=0).numpy()
    scale[4] = 1  # a feature without variance has no weight
    standard = (features.numpy() - features.numpy().mean(0)) / scale
    # Their loss is the sum of cross-entropies and |w|^2 / (2 C).
    theirs = LogisticRegression(C=1 / (2 * 60 * 0.01), tol=1e-10, max_iter=5000)
    expected = theirs.fit(standard, labels.numpy()).predict_proba(standard)
    found = (features @ weight.T + bias).softmax(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not weight[:, 4].any()


def test_the_features_are_the_inputs_of_the_last_layer_in_eval_mode() -> None:
    images = random_images(count=7, size=8)
    harness = make_harness()
    model = harness.network(images).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer = next(m for m in model.modules() if isinstance(m, nn.Linear))
    pixels = harness.tensors(images)[0]
    features = inputs_of(layer, model, pixels, harness, batch=3)
    logits = model.eval()(harness.unit(pixels))
    torch.testing.assert_close(4 * layer(features), logits)  # `Tiny` multiplies by 4
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert not layer._forward_pre_hooks


def test_statistics_are_those_of_the_clean_images() -> None:
    images = random_images(count=12, size=8)
    harness = make_harness(learner=ResNet8())
    model = harness.network(images).train()
    model(harness.unit(harness.tensors(images)[0]) / 4)  # dark images
    pixels = harness.tensors(images)[0]
    expected = copy.deepcopy(model.network).train()
    assert isinstance(expected, nn.Module)
    batches = DataLoader(TensorDataset(harness.unit(pixels)), batch_size=6)
    update_bn(batches, expected)
    renew_statistics(model, pixels, harness, batch=6)
    assert model.training
    found = model.network.state_dict()
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found[name], tensor)
    assert all(m.momentum == 0.1 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(("statistics", "same"), [("clean", False), ("poisoned", True)])
def test_the_option_decides_whether_statistics_change(statistics: Any, *, same: bool) -> None:
    images = random_images(count=12, size=8)
    harness = make_harness(learner=ResNet8())
    model = harness.network(images)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    DeepFeatureReweighting(statistics=statistics).refit(model, images, harness)
    means = [name for name in before if name.endswith("running_mean")]
    assert means
    assert all(torch.equal(before[name], model.state_dict()[name]) == same for name in means)


def test_it_repairs_a_last_layer_trained_on_false_labels_and_keeps_the_last_epoch() -> None:
    """The classes are brightnesses; the labels of the poison are those of the next class."""
    labels = np.arange(60) % 3
    shades = (60 * labels[:, None, None, None] + 40) * np.ones((1, 8, 8, 3))
    clean = ImageSet(shades.astype(np.uint8), labels, 3)
    poisoned = ImageSet(clean.images, (labels + 1) % 3, 3)
    training = Training(batch_size=20, steps=30, lr=0.05)
    found = {}
    for name, defense in (("none", Defense()), ("refitted", DeepFeatureReweighting())):
        harness = make_harness(pad=0)
        outcome = train(poisoned, clean, defense, Radius(), training, harness, clean)
        found[name] = outcome
        assert accuracy(outcome.model, *harness.tensors(clean)) == outcome.accuracy[outcome.chosen]
    assert found["none"].accuracy[-1] < 40
    assert found["refitted"].chosen == len(found["refitted"].accuracy) - 1
    assert found["refitted"].accuracy[-1] == 100
    assert found["refitted"].accuracy[:-1] == found["none"].accuracy[:-1]


def test_combined_it_refits_and_does_not_choose_the_epoch() -> None:
    combined = compose("jpeg+deep-feature-reweighting", {}).plugin
    assert combined.validation_share() == 0.1
    assert not combined.chooses_epoch()
    images = random_images(count=9, size=8)
    model = make_harness().network(images)
    before = model.state_dict()["network.5.weight"].clone()
    assert combined.refit(model, images, make_harness())
    assert not torch.equal(model.state_dict()["network.5.weight"], before)
    with pytest.raises(UserError, match="each define their own held-out images"):
        compose("early-stopping+deep-feature-reweighting", {})


def test_fewer_held_out_images_than_classes_are_refused() -> None:
    images = random_images(count=60, size=8)
    with pytest.raises(UserError, match=r"share=0\.03 holds out 2 of 60 images, fewer .* \(3\)"):
        DeepFeatureReweighting(share=0.03).check(images)
    DeepFeatureReweighting(share=0.05).check(images)


@pytest.mark.parametrize("name", ["deep-feature-reweighting", "early-stopping"])
def test_a_share_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}\.share"):
        compose(name, {name: {"share": "0"}})


def test_a_learner_without_linear_layers_is_refused() -> None:
    class Flat(Learner):
        def build(self, classes: int, size: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(3, classes, size), nn.Flatten())

    images = random_images(count=9, size=8)
    harness = make_harness(learner=Flat())
    with pytest.raises(UserError, match="refits the last linear layer, the learner has none"):
        DeepFeatureReweighting().refit(harness.network(images), images, harness)
    assert isinstance(make_harness().learner, Tiny)
