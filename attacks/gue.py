"""Game-theoretic unlearnable examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Attack, Harness, ImageSet, Poison, Radius, UserError, option
from unlearnable_bench.attacks._unet import UNet
from unlearnable_bench.harness import (
    Network,
    Random,
    ShuffledBatches,
    level_type,
    refuse_divergence,
    sweep,
    zero_noise,
)
from unlearnable_bench.images import centre

_BETAS = (0.9, 0.999)  # of Adam
_TINY = 1e-8
_MOMENTUM = 0.1  # of BatchNorm's statistics, in one pass
_SMALLEST = 8  # side of the images in pixels


@dataclass(frozen=True, kw_only=True)
class GUE(Attack):
    """Game unlearnable examples: a generator against a classifier (AAAI 2024).

    A U-Net G makes the noise rho_u G(x). It leads and a classifier f that is trained on the
    poisoned images follows: min over G of max over wrong labels k of CE(f(x), k) on clean images,
    where f is optimal for CE on the poisoned ones. Each batch takes one first-order step of both
    ([arXiv 2401.17523](https://arxiv.org/abs/2401.17523)).
    """

    needs = "labels"
    # In version 1, other random numbers initialised the generator; in version 2, the networks
    # subtracted 0.5 from their input and the generator's steps up took pixels as areas; in version
    # 3, fewer passes changed the statistics of the generator's BatchNorm, which the noise has; in
    # version 4, the classifier started from the surrogate's own weights.
    version: ClassVar[str] = "5"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    epochs: int = option(50, "number of passes over the training set", minimum=1)
    batch_size: int = option(256, "number of images in a batch", minimum=2)
    inner_steps: int = option(
        10, "number of Adam steps of the copy of the classifier in each batch", minimum=1
    )
    inner_lr: float = option(1e-4, "learning rate of the copy", minimum=0)
    eta: float = option(
        1.5,
        "rate at which the classifier's excess loss is to shrink, relative to its gradient",
        minimum=0,
    )
    lr: float = option(0.01, "learning rate of the classifier", minimum=0)
    generator_lr: float = option(0.1, "learning rate of the generator", minimum=0)
    width: int = option(64, "number of channels of the generator's first level", minimum=1)

    def check(self, images: ImageSet) -> None:
        """Refuse images that the generator cannot halve three times.

        Raises:
            UserError: names both sizes.
        """
        if images.size < _SMALLEST:
            raise UserError(
                f"gue halves images three times, which takes {_SMALLEST} px or more; these have "
                f"{images.size} px: use larger images"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Train generator and classifier together, then generate all noise."""
        pixels, labels = harness.tensors(images)
        model = harness.network(images, centred=False)
        copy = harness.network(images, "copy", centred=False)
        # On the CPU, whose logarithm and cosine are the same for all devices.
        _initialise(model, Random(harness.seed, "weights"))
        generator = _generator(self.width, harness)
        # The authors' loop passes each batch inner_steps + 2 times through the generator, with the
        # same result each time: so two passes here change the statistics as much as all of those.
        momentum = 1 - (1 - _MOMENTUM) ** ((self.inner_steps + 2) / 2)
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
        noise = zero_noise(pixels.shape, level_type(self.rho_u), harness.device)
        harness.keep(noise=noise, model=model, copy=copy, generator=generator)
        radius, view = float(self.rho_u), harness.transform.view(images.size)
        part = centre(images.size, view)

        def poisoned(x: Tensor) -> Tensor:
            views: Tensor = (x + radius * generator(x)).clamp(0, 1)[..., part, part]
            return views

        def update(index: Tensor) -> None:
            x, y = harness.unit(pixels[index]), labels[index]
            weights, all_weights = [*model.parameters()], [*model.parameters()]
            all_weights += generator.parameters()
            with torch.no_grad():
                fixed = poisoned(x)
            self._follow(model, copy, fixed, y)
            seen = poisoned(x)
            excess = functional.cross_entropy(model(seen), y)
            excess = excess - functional.cross_entropy(copy(seen), y)
            lower = torch.autograd.grad(excess, all_weights)
            upper = torch.autograd.grad(_least_likely(model(x[..., part, part]), y), weights)
            share = self._share(upper, lower)
            with torch.no_grad():
                own = lower[: len(weights)]
                for weight, first, second in zip(weights, upper, own, strict=True):
                    weight.sub_(self.lr * (first + share * second))
                for weight, slope in zip(
                    generator.parameters(), lower[len(weights) :], strict=True
                ):
                    weight.sub_(self.generator_lr * share * slope)

        size = min(self.batch_size, len(images))
        batches = ShuffledBatches(
            len(images), size, harness.seed, "generation order", harness.device
        )
        captured = harness.capture(update)
        for network in (model, copy, generator):
            network.train()
        for k in harness.loop("game", self.epochs * batches.per_epoch):
            captured(batches[k])
        refuse_divergence(generator)
        refuse_divergence(model)
        generator.eval()
        visits = list(sweep(len(images), size, harness.device))
        for k in harness.loop("noise", len(visits)):
            index, is_new = visits[k]
            with torch.no_grad():
                found = generator.uncompiled(harness.unit(pixels[index]))
                levels = (255 * radius * found).round().to(noise.dtype)
            noise[index] = torch.where(is_new[:, None, None, None], levels, noise[index])
        harness.keep_surrogate(model, self.epochs * batches.per_epoch)
        return Poison.from_noise(images, noise, self.rho_u)

    def image_passes(self, images: int) -> float:
        """Count the passes of the classifier and its copy, without those of the generator."""
        size = min(self.batch_size, images)
        return float(self.epochs * (images // size * size) * (self.inner_steps + 3))

    def _follow(self, model: nn.Module, copy: nn.Module, x: Tensor, y: Tensor) -> None:
        """Let the copy start from the model's weights and take Adam steps on one batch."""
        weights = [*copy.parameters()]
        with torch.no_grad():
            for weight, start in zip(weights, model.parameters(), strict=True):
                weight.copy_(start)
        means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        for step in range(1, self.inner_steps + 1):
            slopes = torch.autograd.grad(functional.cross_entropy(copy(x), y), weights)
            first, second = (1 - beta**step for beta in _BETAS)
            with torch.no_grad():
                for weight, slope, mean, square in zip(
                    weights, slopes, means, squares, strict=True
                ):
                    mean.lerp_(slope, 1 - _BETAS[0])
                    square.lerp_(slope.square(), 1 - _BETAS[1])
                    move = (mean / first) / ((square / second).sqrt() + _TINY)
                    weight.sub_(self.inner_lr * move)

    def _share(self, upper: Sequence[Tensor], lower: Sequence[Tensor]) -> Tensor:
        """Return lambda = relu((eta |grad q|^2 - <grad f, grad q>) / (|grad q|^2 + 1e-8)).

        Args:
            upper: gradient of f with respect to the classifier's weights.
            lower: gradient of q with respect to these and then the generator's.
        """
        square = torch.stack([slope.square().sum() for slope in lower]).sum()
        pairs = zip(upper, lower, strict=False)
        along = torch.stack([(one * other).sum() for one, other in pairs]).sum()
        return ((self.eta * square - along) / (square + _TINY)).clamp(min=0)


def _least_likely(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean over images of the largest cross-entropy to a wrong label."""
    own = y[:, None] == torch.arange(logits.shape[1], device=y.device)
    losses = (-logits.log_softmax(1)).masked_fill(own, -torch.inf)
    return losses.amax(1).mean()


@torch.no_grad()
def _initialise(network: nn.Module, random: Random) -> None:
    """Give convolutions normal weights of variance 2 / fan-out, and linear layers no bias.

    The authors' classifier starts so. It has no weight decay: larger weights move less.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[:, 0].numel()
            module.weight.copy_(math.sqrt(2 / fan_out) * random.normal(*module.weight.shape))
        elif isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()


def _generator(width: int, harness: Harness) -> Network:
    """Return an untrained U-Net, by the seed."""
    network = harness.seeded(lambda: UNet(width), "generator")
    network = network.to(harness.device, harness.dtype)
    return Network(network, bf16=harness.precision == "bf16")
