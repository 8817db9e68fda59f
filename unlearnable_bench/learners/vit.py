"""A vision transformer for small images."""

from dataclasses import dataclass

from torch import nn
from torchvision.models import VisionTransformer

from unlearnable_bench.contract import Learner
from unlearnable_bench.learners import Normalise


@dataclass(frozen=True, kw_only=True)
class ViTSmall(Learner):
    """ViT on a grid of 8x8 patches, width 192, depth 9 (Dosovitskiy et al. 2021).

    [arXiv 2010.11929](https://arxiv.org/abs/2010.11929), in the size of
    [arXiv 2112.13492](https://arxiv.org/abs/2112.13492).
    """

    def build(self, classes: int, size: int) -> nn.Module:
        """Return torchvision's network; other sizes than multiples of 8 are padded with grey."""
        patch = -(-size // 8)
        missing = 8 * patch - size
        network = VisionTransformer(
            image_size=8 * patch,
            patch_size=patch,
            num_layers=9,
            num_heads=12,
            hidden_dim=192,
            mlp_dim=384,
            num_classes=classes,
        )
        # With torchvision's head of zeros, an untrained network would have input gradient 0.
        nn.init.trunc_normal_(network.heads.head.weight, std=0.02)
        return nn.Sequential(Normalise(), nn.ZeroPad2d((0, missing, 0, missing)), network)
