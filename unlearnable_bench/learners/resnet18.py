"""ResNet-18: the CIFAR form, and the ImageNet form from 128 px."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torchvision.models import resnet18

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners.stem import resnet_for


@dataclass(frozen=True, kw_only=True)
class ResNet18(Learner):
    """ResNet-18 with a 3x3 stride-1 stem and no max-pool (He et al. 2016, CIFAR form)."""

    version: ClassVar[str] = "2"  # 1 was initialised as torchvision does

    def build(self, classes: int, size: int) -> nn.Module:
        """Return torchvision's network, below 128 px in its CIFAR form."""
        return resnet_for(size, resnet18(num_classes=classes))
