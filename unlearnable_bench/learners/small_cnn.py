"""A network small enough for two CPU cores."""

from dataclasses import dataclass

from torch import nn

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise
from unlearnable_bench.options import option


@dataclass(frozen=True, kw_only=True)
class SmallCNN(Learner):
    """Three convolutions with BatchNorm, for the smoke preset: trains in seconds on a CPU."""

    width: int = option(16, "number of channels of the first layer", minimum=1)

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the network: convolutions whose channels double, then a global average."""
        width = self.width
        return nn.Sequential(
            Normalise(),
            *_block(3, width, stride=2),
            *_block(width, 2 * width),
            nn.MaxPool2d(2),
            *_block(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4 * width, classes),
        )


def _block(channels: int, width: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU()
