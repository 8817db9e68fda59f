"""LeNet-5."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise
from unlearnable_bench.options import option

_WIDTHS = (6, 16, 120, 84)  # of two convolutions and two linear layers
_SMALLEST = 16  # px, at which the second convolution still has an output to pool


@dataclass(frozen=True, kw_only=True)
class LeNet5(Learner):
    """LeNet-5 with max-pooling and three input channels (LeCun et al. 1998).

    [doi 10.1109/5.726791](https://doi.org/10.1109/5.726791), in the form in which it is trained on
    CIFAR-10 today: dense convolutions and a linear last layer.
    """

    multiple: int = option(1, "factor of all widths, which are 6, 16, 120 and 84 at 1", minimum=1)
    activation: Literal["relu", "tanh"] = option("relu", "activation function")

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the network; images below 16 px are padded with grey."""
        missing = max(0, _SMALLEST - size)
        side = ((size + missing - 4) // 2 - 4) // 2
        act = nn.ReLU if self.activation == "relu" else nn.Tanh
        first, second, third, fourth = (self.multiple * width for width in _WIDTHS)
        return nn.Sequential(
            Normalise(),
            nn.ZeroPad2d((0, missing, 0, missing)),
            nn.Conv2d(3, first, 5),
            act(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5),
            act(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * side**2, third),
            act(),
            nn.Linear(third, fourth),
            act(),
            nn.Linear(fourth, classes),
        )
