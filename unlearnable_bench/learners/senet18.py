"""SE-ResNet-18: ResNet-18 with squeeze-and-excitation in each block."""

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
    """ResNet-18, CIFAR form, with squeeze-and-excitation of reduction 16 (Hu et al. 2018).

    [arXiv 1709.01507](https://arxiv.org/abs/1709.01507).
    """

    version: ClassVar[str] = "2"  # version 1 had torchvision's initialisation

    def build(self, classes: int, size: int) -> nn.Module:
        """Return torchvision's ResNet-18 with each residual branch rescaled before the sum."""
        network = resnet_for(size, resnet18(num_classes=classes))
        for block in network.modules():
            if isinstance(block, BasicBlock):
                width = block.bn2.num_features
                excitation = SqueezeExcitation(width, width // 16)
                # Its inputs are means near 0, so a bias would decide which ReLUs start dead.
                nn.init.zeros_(excitation.fc1.bias)
                block.bn2 = nn.Sequential(block.bn2, excitation)
        return network
