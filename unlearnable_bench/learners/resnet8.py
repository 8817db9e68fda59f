"""The smallest residual network of the CIFAR series."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise


@dataclass(frozen=True, kw_only=True)
class ResNet8(Learner):
    """ResNet-8: three residual blocks of 16, 32 and 64 channels (He et al. 2016, n = 1).

    78,000 weights ([arXiv 1512.03385](https://arxiv.org/abs/1512.03385), section 4.2): a residual
    network that trains in minutes on a CPU. Shortcuts to more channels are 1x1 convolutions.
    """

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the network: one convolution, three blocks, a global average."""
        return nn.Sequential(
            Normalise(),
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            _Block(16, 16),
            _Block(16, 32, stride=2),
            _Block(32, 64, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, classes),
        )


class _Block(nn.Module):
    """Two convolutions with BatchNorm, and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, float [B, width, H / stride, W / stride]."""
        inner = functional.relu(self.first_norm(self.first(x)))
        total: Tensor = self.second_norm(self.second(inner)) + self.shortcut(x)
        return functional.relu(total)
