"""ResNet-50: the CIFAR form, and the ImageNet form from 128 px."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torchvision.models import resnet50

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners.stem import resnet_for


@dataclass(frozen=True, kw_only=True)
class ResNet50(Learner):
    """ResNet-50, CIFAR form: 3x3 stem of stride 1 without max-pooling (He et al. 2016).

    [arXiv 1512.03385](https://arxiv.org/abs/1512.03385).
    """

    version: ClassVar[str] = "2"  # version 1 had torchvision's initialisation

    def build(self, classes: int, size: int) -> nn.Module:
        """Return torchvision's network, in its CIFAR form below 128 px."""
        return resnet_for(size, resnet50(num_classes=classes))
