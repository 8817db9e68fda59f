"""Augmented adversarial poisons."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Attack, Harness, ImageSet, Poison, Radius, option
from unlearnable_bench.attacks._contrastive import contrastive_view, sign_step
from unlearnable_bench.attacks._each_image import optimise_each
from unlearnable_bench.attacks._own_network import train_network
from unlearnable_bench.attacks._rounds import cosine
from unlearnable_bench.harness import (
    level_type,
    set_lr,
    sgd,
    zero_noise,
)

_LAST_LR = 1e-6


@dataclass(frozen=True, kw_only=True)
class AAP(Attack):
    """Augmented adversarial poisons: TAP through contrastive augmentations (NeurIPS 2024).

    A network f is trained on SimCLR's augmentation A of the clean images; then min over delta_u
    of E_A CE(f(A(x + delta_u)), (y + 1) mod C) by sign descent, with a new draw of A in each step
    ([arXiv 2402.04010](https://arxiv.org/abs/2402.04010)). `untargeted` maximises the loss of the
    true label instead. Made against supervised and contrastive learners.
    """

    # In version 1, the network subtracted 0.5 from its input, and its learning rate changed with
    # each update.
    version: ClassVar[str] = "2"

    needs = "labels"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    strength: float | None = option(
        None,
        "strength of the augmentation; none: 0.4 up to 10 classes, 0.8 above",
        minimum=0,
        maximum=1,
    )
    epochs: int = option(40, "number of epochs of the network", minimum=1)
    batch_size: int = option(128, "number of images in a batch", minimum=1)
    lr: float = option(
        0.5,
        "peak learning rate of the network: linear over a quarter of the epochs, then cosine to "
        "1e-6, by epochs",
        minimum=0,
    )
    steps: int = option(250, "number of sign steps, each of 2.5 rho_u / steps", minimum=1)
    untargeted: bool = option(
        False, "direction of the attack: true away from the true label, false towards the next one"
    )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Train the network, then attack every image from zero noise."""
        pixels, labels = harness.tensors(images)
        model = harness.network(images, centred=False)
        optimizer = sgd(model, lr=self.lr, weight_decay=1e-4)
        random = harness.random("generation")
        # In whole units of 1/255, since no step starts from stored noise.
        noise = zero_noise(pixels.shape, level_type(self.rho_u), harness.device)
        harness.keep(noise=noise, model=model, optimizer=optimizer)
        strength = self.strength
        if strength is None:
            strength = 0.4 if images.classes <= 10 else 0.8

        def view(x: Tensor) -> Tensor:
            return contrastive_view(x, strength, harness.transform, random)

        def update(index: Tensor) -> None:
            views = view(harness.unit(pixels[index]))
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(views), labels[index]).backward()
            optimizer.step()

        total = train_network(
            harness,
            model,
            update,
            images=len(images),
            batch_size=self.batch_size,
            epochs=self.epochs,
            before=lambda k, steps: set_lr(optimizer, self.scheduled_lr(k * self.epochs // steps)),
        )
        size = min(self.batch_size, len(images))
        radius = float(self.rho_u)
        move = (1 if self.untargeted else -1) * 2.5 * radius / self.steps
        targets = labels if self.untargeted else (labels + 1) % images.classes
        delta = torch.zeros((size, *pixels.shape[1:]), dtype=harness.dtype, device=harness.device)

        def step(index: Tensor) -> None:
            x, y = harness.unit(pixels[index]), targets[index]
            moved, gradient = sign_step(model, x, y, delta, move, radius, view)
            harness.watch(gradient, index)
            delta.copy_(moved)

        optimise_each(harness, step, lambda _: delta.zero_(), self.steps, delta, noise)
        harness.keep_surrogate(model, total)
        return Poison.from_noise(images, noise, self.rho_u)

    def image_passes(self, images: int) -> float:
        """Count a pass of each image in each epoch of the network and in each sign step."""
        size = min(self.batch_size, images)
        return float(self.epochs * (images // size * size) + self.steps * images)

    def scheduled_lr(self, epoch: int) -> float:
        """Return the network's learning rate in an epoch, from 0."""
        warm, last = self.epochs // 4, min(_LAST_LR, self.lr)
        if epoch < warm:
            return self.lr * (epoch + 1) / warm
        return cosine(self.lr, last, epoch - warm, self.epochs - warm)
