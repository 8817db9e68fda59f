"""The network of D-VAE: an image apart from the perturbation that its class predicts."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock


class Parts(NamedTuple):
    """What the network makes of a batch.

    Attributes:
        image: the reconstruction, float [B, 3, H, W] in (0, 1).
        perturbation: p-hat, float [B, 3, H, W].
        mean: means of the latent variables, float [B, L, H/2, W/2].
        log_variance: logarithms of their variances, of the same shape.
    """

    image: Tensor
    perturbation: Tensor
    mean: Tensor
    log_variance: Tensor


class DVAENetwork(nn.Module):
    """A variational autoencoder with a second decoder for the perturbation.

    The encoder is a ResNet-18 in its CIFAR form up to the first block of its second stage.

    Args:
        classes: number of classes.
        size: height and width of the images in pixels, even.
        width: number of channels of the encoder's first stage.
        latent: number of latent channels L.
        bf16: compute all layers but those that read and write pixels in bf16, by autocast; the type
            of weights and statistics does not change.
    """

    def __init__(
        self, classes: int, size: int, width: int, latent: int, *, bf16: bool = False
    ) -> None:
        super().__init__()
        self.bf16 = bf16
        wide = 2 * width
        shortcut = nn.Sequential(nn.Conv2d(width, wide, 1, 2, bias=False), nn.BatchNorm2d(wide))
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            BasicBlock(width, width),
            BasicBlock(width, width),
            BasicBlock(width, wide, 2, shortcut),
        )
        self.mean = nn.Conv2d(wide, latent, 1)
        self.log_variance = nn.Conv2d(wide, latent, 1)
        self.expand = nn.Conv2d(latent, wide, 1)
        self.image = _decoder(width)
        self.perturbation = _decoder(width)
        self.embedding = nn.Embedding(classes, wide * (size // 2) ** 2)

    def forward(self, x: Tensor, y: Tensor, noise: Tensor) -> Parts:
        """Return the parts of a batch.

        Args:
            x: images, float [B, 3, H, W] in [0, 1].
            y: labels, int64 [B].
            noise: standard normal draws, float [B, L, H/2, W/2].
        """
        first = self.encoder[0](x)
        with torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            stem = self.encoder[1:](first)
            mean, log_variance = self.mean(stem).to(x.dtype), self.log_variance(stem).to(x.dtype)
            z = self.expand(mean + (0.5 * log_variance).exp() * noise)
            last = self.image[:-1](z)
            of_class = z + self.embedding(y).view_as(z)
            last_of_class = self.perturbation[:-1](of_class)
        image = self.image[-1](last.to(x.dtype)).sigmoid()
        perturbation = self.perturbation[-1](last_of_class.to(x.dtype))
        return Parts(image, perturbation, mean, log_variance)


def _decoder(width: int) -> nn.Sequential:
    """Return a decoder of [B, 2 width, H/2, W/2] to [B, 3, H, W]."""
    return nn.Sequential(
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
        nn.ConvTranspose2d(width, width, 3, padding=1),
        nn.InstanceNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, width // 2, 3, padding=1),
        nn.InstanceNorm2d(width // 2),
        nn.ReLU(),
        nn.ConvTranspose2d(width // 2, 3, 3, padding=1),
    )


def rate(parts: Parts) -> Tensor:
    """Return the rate, KL(N(mean, variance) || N(0, 1)) of a position in nats, a scalar.

    Summed over the latent channels, and averaged over positions and images.
    """
    mean, log_variance = parts.mean, parts.log_variance
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return divergence.sum(1).mean()


def objective(
    parts: Parts, x: Tensor, target: float, weight: float, floor: float, penalised: Tensor
) -> Tensor:
    """Return the loss of a batch, a scalar.

    |rec - x|^2 + |clip(rec + p) - x|^2 + weight max(KL, target) + penalised max(|p|^2, floor),
    where |.|^2 is the mean over all values.

    Args:
        parts: what the network makes of the batch.
        x: the batch, float [B, 3, H, W].
        target: the rate below which there is no penalty, in nats.
        weight: weight of the rate.
        floor: mean square of the perturbation below which there is no penalty.
        penalised: 1 if a larger perturbation is penalised, otherwise 0; a scalar.
    """
    rec, perturbation = parts.image, parts.perturbation
    loss = functional.mse_loss(rec, x)
    loss = loss + functional.mse_loss((rec + perturbation).clamp(0, 1), x)
    loss = loss + weight * rate(parts).clamp(min=target)
    result: Tensor = loss + penalised * perturbation.square().mean().clamp(min=floor)
    return result
