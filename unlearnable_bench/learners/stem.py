"""Where an architecture's CIFAR form ends and its ImageNet form begins."""

from torch import nn
from torchvision.models import ResNet

from unlearnable_bench.learners import Normalise


def is_large(size: int) -> bool:
    """Tell whether images get the ImageNet form: from 128 px; CIFAR and Tiny-ImageNet do not."""
    return size >= 128


def small_stem(width: int) -> nn.Conv2d:
    """Return the first layer of the CIFAR forms: 3x3, stride 1; nothing is pooled after it."""
    return nn.Conv2d(3, width, 3, padding=1, bias=False)


def resnet_for(size: int, network: ResNet) -> nn.Sequential:
    """Return torchvision's network behind the normalisation, for small images its CIFAR form.

    That form has its own stem, no max-pool, and convolutions that start as PyTorch's do: so
    does the code of EM, REM and SEM. Noise depends on it: from torchvision's own start
    (He et al. 2015, fan-out) it is more in brightness and less in colour.
    """
    if not is_large(size):
        network.conv1 = small_stem(64)
        network.maxpool = nn.Identity()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
    return nn.Sequential(Normalise(), network)
