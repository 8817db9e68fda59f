"""DenseNet-121: the CIFAR form, and the ImageNet form from 128 px."""

from dataclasses import dataclass

from torch import nn
from torchvision.models import densenet121

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise
from unlearnable_bench.learners.stem import is_large, small_stem


@dataclass(frozen=True, kw_only=True)
class DenseNet121(Learner):
    """DenseNet-121, CIFAR form: 3x3 stem of stride 1 without pooling (Huang et al. 2017).

    [arXiv 1608.06993](https://arxiv.org/abs/1608.06993).
    """

    def build(self, classes: int, size: int) -> nn.Module:
        """Return torchvision's network, with the CIFAR stem below 128 px."""
        network = densenet121(num_classes=classes)
        if not is_large(size):
            network.features.conv0 = small_stem(64)
            network.features.pool0 = nn.Identity()
        return nn.Sequential(Normalise(), network)
