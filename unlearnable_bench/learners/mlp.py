"""The linear classifier, and perceptrons with two and three layers."""

from dataclasses import dataclass

from torch import nn

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise
from unlearnable_bench.options import option


@dataclass(frozen=True, kw_only=True)
class Linear(Learner):
    """Linear classifier on the pixels (multinomial logistic regression)."""

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the network: pixels, logits."""
        return perceptron(classes, size, width=0, hidden=0)


@dataclass(frozen=True, kw_only=True)
class MLP2(Learner):
    """Two-layer perceptron: one hidden layer of ReLUs on the pixels."""

    width: int = option(512, "number of units of the hidden layer", minimum=1)

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the network: pixels, hidden layer, logits."""
        return perceptron(classes, size, self.width, hidden=1)


@dataclass(frozen=True, kw_only=True)
class MLP3(Learner):
    """Three-layer perceptron: two hidden layers of ReLUs on the pixels."""

    width: int = option(512, "number of units of each hidden layer", minimum=1)

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the network: pixels, two hidden layers, logits."""
        return perceptron(classes, size, self.width, hidden=2)


def perceptron(classes: int, size: int, width: int, *, hidden: int) -> nn.Sequential:
    """Return a fully connected network with biases, as PyTorch initialises it.

    Args:
        classes: number of classes.
        size: height and width of the images in pixels.
        width: number of units of each hidden layer.
        hidden: number of hidden layers.
    """
    layers: list[nn.Module] = [Normalise(), nn.Flatten()]
    features = 3 * size**2
    for _ in range(hidden):
        layers += [nn.Linear(features, width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, classes))
