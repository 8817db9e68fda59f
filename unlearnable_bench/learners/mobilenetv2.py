"""MobileNetV2: the CIFAR form, and the ImageNet form from 128 px."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torchvision.models import mobilenet_v2

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise
from unlearnable_bench.learners.stem import is_large

# Table 2 of the paper: expansion, channels, blocks, stride. The second stage has stride 2 there
# and stride 1 here.
SMALL_STAGES = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


@dataclass(frozen=True, kw_only=True)
class MobileNetV2(Learner):
    """MobileNetV2, CIFAR form: stem and second stage of stride 1 (Sandler et al. 2018).

    [arXiv 1801.04381](https://arxiv.org/abs/1801.04381).
    """

    version: ClassVar[str] = "2"  # in version 1, dropout drew from torch's generator

    def build(self, classes: int, size: int) -> nn.Module:
        """Return torchvision's network, with two strides of 1 instead of 2 below 128 px."""
        if is_large(size):
            return nn.Sequential(Normalise(), mobilenet_v2(num_classes=classes))
        network = mobilenet_v2(num_classes=classes, inverted_residual_setting=SMALL_STAGES)
        stem, _norm, _relu = network.features[0]
        stem.stride = (1, 1)
        return nn.Sequential(Normalise(), network)
