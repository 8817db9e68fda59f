"""Perturbation-induced linearisation."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, Radius, Random, option
from unlearnable_bench.attacks._rounds import cosine

_MOMENTUM = 0.9


@dataclass(frozen=True, kw_only=True)
class PIL(Attack):
    """Perturbation-induced linearisation: noise for a linear classifier (ICLR 2026).

    A bias-free linear classifier f is trained on the clean images; then, for each image,
    min over delta of 0.9 CE(f(delta), y) + 0.1 KL(uniform || softmax f(x - delta)) by sign
    descent, and poison = x - delta ([arXiv 2601.19967](https://arxiv.org/abs/2601.19967)). The
    classifier is the method's own: the noise does not depend on the surrogate of the run.
    """

    needs = "labels"

    # Of the harness's networks none is used, so that the surrogate is not part of the key.
    surrogate: ClassVar[Literal["none"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    balance: float = option(
        0.9, "weight of the cross-entropy; the divergence has the rest", minimum=0, maximum=1
    )
    steps: int = option(30, "number of sign-descent steps, each of rho_u / 10", minimum=1)
    epochs: int = option(30, "number of epochs of the linear classifier", minimum=1)
    batch_size: int = option(512, "number of images in a batch of the classifier", minimum=1)
    lr: float = option(
        0.003, "learning rate of the classifier at the start; cosine to 0 by epochs", minimum=0
    )
    shuffled: bool = option(
        True, "order of the classifier's batches: true random, false that of the images"
    )
    block: int = option(
        250, "number of images that get noise together; changes the random start only", minimum=1
    )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Train the classifier, then descend from a uniform random start for each image."""
        pixels, labels = harness.tensors(images)
        pixels = pixels.reshape(len(images), -1)
        features, classes = pixels.shape[1], images.classes
        start, order = harness.random("initialisation"), harness.random("order")
        random = harness.random("noise")
        layers = [_layer(classes, n, start).to(harness.dtype) for n in (features, classes)]
        moves = [torch.zeros_like(layer) for layer in layers]
        poisoned = pixels.clone()
        harness.keep(
            first=layers[0], second=layers[1], move=moves[0], move_2=moves[1], poisoned=poisoned
        )
        for epoch in harness.loop("classifier", self.epochs):
            lr = cosine(self.lr, 0, epoch, self.epochs)
            turn = torch.arange(len(pixels), device=harness.device)
            if self.shuffled:
                turn = order.permutation(len(pixels))
            for batch in turn.split(self.batch_size):
                _update(layers, moves, harness.unit(pixels[batch]), labels[batch], lr)
        weights = layers[1] @ layers[0]
        blocks = -(-len(pixels) // self.block)
        for k in harness.loop("noise", blocks):
            part = slice(k * self.block, (k + 1) * self.block)
            own = pixels[part]
            radius = float(self.rho_u)
            drawn = random.uniform(self.block, features, low=-radius, high=radius)[: len(own)]
            delta = drawn.to(harness.dtype)
            self._descend(delta, harness.unit(own), labels[part], weights)
            levels = (-255 * delta).round().clamp(-self.rho_u.levels, self.rho_u.levels)
            poisoned[part] = (own + levels).clamp(0, 255).to(torch.uint8)
        shape = (len(images), 3, images.size, images.size)
        found = poisoned.reshape(shape).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return Poison(found, Budget("linf", self.rho_u))

    def image_passes(self, images: int) -> float:
        """Return 0: two matrix products an image and step, next to nothing."""
        return 0

    def _descend(self, delta: Tensor, x: Tensor, y: Tensor, weights: Tensor) -> None:
        """Change delta, float [B, D] in [-rho_u, rho_u], in place.

        The map is linear, so f(x - delta) = f(x) - f(delta), and one product serves both terms.
        """
        radius = float(self.rho_u)
        targets = functional.one_hot(y, len(weights)).to(delta.dtype)
        clean = x @ weights.T
        for _ in range(self.steps):
            logits = delta @ weights.T
            towards = self.balance * (logits.softmax(1) - targets)
            away = (1 - self.balance) * ((clean - logits).softmax(1) - 1 / len(weights))
            gradient = (towards - away) @ weights
            delta.sub_(gradient.sign_(), alpha=radius / 10).clamp_(-radius, radius)


def _layer(rows: int, columns: int, random: Random) -> Tensor:
    """Return torch's default initialisation of a linear layer, float32 [rows, columns]."""
    bound = columns**-0.5
    return random.uniform(rows, columns, low=-bound, high=bound)


def _update(layers: list[Tensor], moves: list[Tensor], x: Tensor, y: Tensor, lr: float) -> None:
    """Update both layers in place by SGD with momentum on the mean cross-entropy.

    Args:
        layers: weights, [C, D] and [C, C].
        moves: their momentum.
        x: images, float [B, D] in [0, 1].
        y: labels, int64 [B].
        lr: learning rate.
    """
    hidden = x @ layers[0].T
    targets = functional.one_hot(y, len(layers[1])).to(x.dtype)
    error = ((hidden @ layers[1].T).softmax(1) - targets) / len(x)
    gradients = [(error @ layers[1]).T @ x, error.T @ hidden]
    for layer, move, gradient in zip(layers, moves, gradients, strict=True):
        move.mul_(_MOMENTUM).add_(gradient)
        layer.sub_(move, alpha=lr)
