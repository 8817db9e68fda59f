"""WRN-34-10, which torchvision lacks: its wide ResNets are those of ImageNet."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import relu

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise
from unlearnable_bench.learners.stem import is_large, small_stem


@dataclass(frozen=True, kw_only=True)
class WideResNet34x10(Learner):
    """Wide ResNet of depth 34 and width factor 10, no dropout (Zagoruyko & Komodakis 2016).

    [arXiv 1605.07146](https://arxiv.org/abs/1605.07146).
    """

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the CIFAR form, with the stem of the ImageNet ResNets from 128 px."""
        network = nn.Sequential(
            Normalise(),
            _large_stem(16) if is_large(size) else small_stem(16),
            _stage(16, 160, stride=1),
            _stage(160, 320, stride=2),
            _stage(320, 640, stride=2),
            nn.BatchNorm2d(640),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(640, classes),
        )
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return network


class _Block(nn.Module):
    """A pre-activation block: x + conv(relu(bn(conv(relu(bn(x)))))).

    If the shape changes, a 1x1 convolution of relu(bn(x)) replaces x in the sum.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(channels, width, 1, stride, bias=False) if channels != width else None
        )

    def forward(self, x: Tensor) -> Tensor:
        active = relu(self.norm1(x))
        branch: Tensor = self.conv2(relu(self.norm2(self.conv1(active))))
        return branch + (x if self.shortcut is None else self.shortcut(active))


def _stage(channels: int, width: int, stride: int) -> nn.Sequential:
    # (34 - 4) / 6 = 5 blocks in each of three stages.
    return nn.Sequential(
        _Block(channels, width, stride), *(_Block(width, width, 1) for _ in range(4))
    )


def _large_stem(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.MaxPool2d(3, 2, padding=1)
    )
