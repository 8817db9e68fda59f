"""SE-ResNet-18: ResNet-18 whose blocks weigh their channels."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock
from torchvision.ops import SqueezeExcitation

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners.stem import resnet_for


@dataclass(frozen=True, kw_only=True)
class SENet18(Learner):
    """ResNet-18 (CIFAR form) with squeeze-and-excitation, reduction 16 (Hu et al. 2018)."""

    version: ClassVar[str] = "2"  # 1 was initialised as torchvision does

    def build(self, classes: int, size: int) -> nn.Module:
        """Return torchvision's ResNet-18, each residual branch rescaled before the addition."""
        network = resnet_for(size, resnet18(num_classes=classes))
        for block in network.modules():
            if isinstance(block, BasicBlock):
                width = block.bn2.num_features
                excitation = SqueezeExcitation(width, width // 16)
                # The means it sees are near 0: a bias would decide which units start dead.
                nn.init.zeros_(excitation.fc1.bias)
                block.bn2 = nn.Sequential(block.bn2, excitation)
        return network
