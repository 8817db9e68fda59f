"""LeNet-5."""

from dataclasses import dataclass

from torch import nn

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise

_SMALLEST = 16  # px, at which the second convolution still has an output to pool


@dataclass(frozen=True, kw_only=True)
class LeNet5(Learner):
    """LeNet-5 with ReLUs, max-pooling and three input channels (LeCun et al. 1998).

    [doi 10.1109/5.726791](https://doi.org/10.1109/5.726791), in the form in which it is trained on
    CIFAR-10 today: dense convolutions and a linear last layer.
    """

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the network; images below 16 px are padded with grey."""
        missing = max(0, _SMALLEST - size)
        side = ((size + missing - 4) // 2 - 4) // 2
        return nn.Sequential(
            Normalise(),
            nn.ZeroPad2d((0, missing, 0, missing)),
            *_block(3, 6),
            *_block(6, 16),
            nn.Flatten(),
            nn.Linear(16 * side**2, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )


def _block(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 5), nn.ReLU(), nn.MaxPool2d(2)
