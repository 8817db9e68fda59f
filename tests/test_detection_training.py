"""Detection: the training of its networks by hand, and which poisons they recognise."""

import copy
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from helpers import make_harness, random_images
from torch import nn

from unlearnable_bench import ImageSet, Random, UserError
from unlearnable_bench.harness import ShuffledBatches
from unlearnable_bench.learners.mlp import Linear
from unlearnable_bench.planning.registry import learners
from unlearnable_bench.running.detection import TRAINING, Test, detect
from unlearnable_bench.schedule import Training

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Kept(Linear):
    """The linear classifier, which keeps the modules that it built."""

    built: list[nn.Module] = field(default_factory=list)

    def build(self, classes: int, size: int) -> nn.Module:
        self.built.append(super().build(classes, size))
        return self.built[-1]


def by_hand(
    weights: list[list[float]],
    bias: list[float],
    images: ImageSet,
    training: Training,
    shift: float,
) -> tuple[float, int]:
    """Train the linear classifier in place, value by value; return accuracy and held-out images."""
    count = len(images)
    order = Random(0, "held-out images").permutation(count).tolist()
    held = round(count / 5)
    tested, trained = sorted(order[:held]), sorted(order[held:])
    # Channels first, as torch flattens them; the classifier subtracts 0.5.
    values = images.images.transpose(0, 3, 1, 2).reshape(count, -1).astype(float) / 255 - 0.5
    labels = images.labels.tolist()
    classes, inputs = len(weights), len(weights[0])
    moved = [[0.0] * inputs for _ in range(classes)]
    moved_bias = [0.0] * classes
    batches = ShuffledBatches(len(trained), training.batch_size, 0, "training order", CPU)
    steps = training.epochs * batches.per_epoch

    def scores(x: list[float]) -> list[float]:
        return [
            bias[c] + sum(w * value for w, value in zip(weights[c], x, strict=True))
            for c in range(classes)
        ]

    for step in range(steps):
        share = 1 if step < 0.75 * steps else 0.1 if step < 0.9 * steps else 0.01
        rate = float(np.float32(training.lr * share))  # as torch's fused SGD holds it
        batch = [trained[k] for k in batches[step].tolist()]
        slopes = [[training.weight_decay * w for w in row] for row in weights]
        bias_slopes = [training.weight_decay * b for b in bias]
        for image in batch:
            x = [value + shift for value in values[image]]
            found = [math.exp(score) for score in scores(x)]
            for c in range(classes):
                error = (found[c] / sum(found) - (c == labels[image])) / len(batch)
                bias_slopes[c] += error
                for k in range(inputs):
                    slopes[c][k] += error * x[k]
        for c in range(classes):
            moved_bias[c] = training.momentum * moved_bias[c] + bias_slopes[c]
            bias[c] -= rate * moved_bias[c]
            for k in range(inputs):
                moved[c][k] = training.momentum * moved[c][k] + slopes[c][k]
                weights[c][k] -= rate * moved[c][k]
    right = 0
    for image in tested:
        found = scores(values[image].tolist())
        right += found.index(max(found)) == labels[image]
    return 100 * right / held, held


@pytest.mark.parametrize("shift", [0.0, -0.5, 0.5])
def test_the_linear_network_is_trained_as_by_hand(shift: float) -> None:
    images = random_images(count=26, size=4)
    training = replace(TRAINING, epochs=5, batch_size=5)
    learner = Kept()
    harness = make_harness(learner=learner)
    start = copy.deepcopy(harness.network(images, "learner")).network[2]
    weights, bias = start.weight.tolist(), start.bias.tolist()
    test = Test("linear", learners.choose("linear"), training, shift=shift)
    accuracy, _, held_out = detect(images, test, harness)
    expected, held = by_hand(weights, bias, images, training, shift)
    assert (accuracy, held_out) == (pytest.approx(expected), held) == (accuracy, 5)
    layer = learner.built[-1][2]
    np.testing.assert_allclose(layer.weight.detach().numpy(), weights, rtol=1e-9)
    np.testing.assert_allclose(layer.bias.detach().numpy(), bias, rtol=1e-9)


def noise(count: int = 400) -> ImageSet:
    random = np.random.default_rng(0)
    images = random.integers(100, 156, (count, 8, 8, 3)).astype(np.uint8)
    return ImageSet(images, np.arange(count) % 4, classes=4)


def class_wise(images: ImageSet) -> ImageSet:
    """Add one pattern of +-8 for each class."""
    patterns = np.random.default_rng(1).choice([-8, 8], (images.classes, 8, 8, 3))
    return images.replaced((images.images + patterns[images.labels]).astype(np.uint8))


@pytest.mark.parametrize("name", ["linear", "mlp2"])
def test_a_class_wise_poison_is_detected_and_images_without_a_pattern_are_not(name: str) -> None:
    chosen = learners.choose(name)
    test = Test(name, chosen, replace(TRAINING, epochs=30, batch_size=32), augmented=False)
    harness = make_harness("fp32", learner=chosen.plugin)
    accuracy, train_accuracy, held_out = detect(class_wise(noise()), test, harness)
    assert accuracy == train_accuracy == 100
    assert held_out == 80
    harness = make_harness("fp32", learner=chosen.plugin)
    accuracy, _, _ = detect(noise(), test, harness)
    assert accuracy < 25 + 3 * math.sqrt(25 * 75 / 80)  # chance is 25 %


def test_one_image_cannot_be_split() -> None:
    test = Test("linear", learners.choose("linear"), TRAINING)
    with pytest.raises(UserError, match="give data with five or more"):
        detect(random_images(count=1), test, make_harness(learner=Linear()))
