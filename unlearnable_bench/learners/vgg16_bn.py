"""VGG-16 with BatchNorm: the CIFAR form, and the ImageNet form from 128 px."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torchvision.models import vgg16_bn
from torchvision.models.vgg import cfgs, make_layers

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise
from unlearnable_bench.learners.stem import is_large


@dataclass(frozen=True, kw_only=True)
class VGG16BN(Learner):
    """VGG-16 with BatchNorm, CIFAR form: 512-512-C head (Simonyan & Zisserman 2015).

    [arXiv 1409.1556](https://arxiv.org/abs/1409.1556). Dropout precedes each hidden layer of the
    head, as in the REM code.
    """

    # Dropout drew from torch's generator in version 1; in version 2 its backward pass could drop
    # other values than the forward pass; in version 3 it followed the hidden layers.
    version: ClassVar[str] = "4"

    def build(self, classes: int, size: int) -> nn.Module:
        """Return torchvision's convolutions with the small head, from 128 px its whole network."""
        if is_large(size):
            return nn.Sequential(Normalise(), vgg16_bn(num_classes=classes))
        return nn.Sequential(
            Normalise(),
            _features(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(512, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(512, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, classes),
        )


def _features() -> nn.Module:
    # Without vgg16_bn(), which would initialise the 120 million weights of a head as well.
    features: nn.Module = make_layers(cfgs["D"], batch_norm=True)
    for layer in features.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.MaxPool2d):
            # Five poolings would reduce 28 px to 0; this changes nothing for multiples of 32.
            layer.ceil_mode = True
    return features
