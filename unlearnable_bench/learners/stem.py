"""The CIFAR form of architectures, used below 128 px instead of the ImageNet form."""

from torch import nn
from torchvision.models import ResNet

from unlearnable_bench.learners import Normalise


def is_large(size: int) -> bool:
    """Return whether images of this size get the ImageNet form: from 128 px."""
    return size >= 128


def small_stem(width: int) -> nn.Conv2d:
    """Return the first layer of the CIFAR forms: 3x3, stride 1, without pooling after it."""
    return nn.Conv2d(3, width, 3, padding=1, bias=False)


def resnet_for(size: int, network: ResNet) -> nn.Sequential:
    """Return a torchvision ResNet with normalisation, in its CIFAR form for small images.

    The CIFAR form has a 3x3 stem, no max-pooling, and PyTorch's default initialisation of
    convolutions, as in the code of EM, REM and SEM. The initialisation changes the noise: with
    torchvision's (He et al. 2015, fan-out) it has more brightness and less colour.

    Args:
        size: height and width of the images in pixels.
        network: torchvision's network, changed in place.
    """
    if not is_large(size):
        network.conv1 = small_stem(64)
        network.maxpool = nn.Identity()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
    return nn.Sequential(Normalise(), network)
