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
        return perceptron(classes, size)


@dataclass(frozen=True, kw_only=True)
class MLP2(Learner):
    """Two-layer perceptron: one hidden layer of ReLUs on the pixels."""

    width: int = option(512, "number of units of the hidden layer", minimum=1)

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the network: pixels, hidden layer, logits."""
        return perceptron(classes, size, self.width)


@dataclass(frozen=True, kw_only=True)
class MLP3(Learner):
    """Three-layer perceptron: two hidden layers of ReLUs on the pixels."""

    width: int = option(512, "number of units of the first hidden layer", minimum=1)
    second_width: int | None = option(
        None, "number of units of the second hidden layer; none: as many", minimum=1
    )

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the network: pixels, two hidden layers, logits."""
        return perceptron(classes, size, self.width, self.second_width or self.width)


def perceptron(classes: int, size: int, *widths: int) -> nn.Sequential:
    """Return a fully connected network with biases, as PyTorch initialises it.

    Args:
        classes: number of classes.
        size: height and width of the images in pixels.
        widths: number of units of each hidden layer.
    """
    layers: list[nn.Module] = [Normalise(), nn.Flatten()]
    features = 3 * size**2
    for width in widths:
        layers += [nn.Linear(features, width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, classes))
