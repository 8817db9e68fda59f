"""Augmented unlearnable examples."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Attack, Harness, ImageSet, Poison, Radius, option
from unlearnable_bench.attacks._contrastive import contrastive_view, sign_step
from unlearnable_bench.attacks._rounds import alternate_epochs, cosine
from unlearnable_bench.harness import (
    StoredNoise,
    refuse_divergence,
    set_lr,
    sgd,
)


@dataclass(frozen=True, kw_only=True)
class AUE(Attack):
    """Augmented unlearnable examples: EM through contrastive augmentations (NeurIPS 2024).

    min over theta and delta_u of E_A CE(f_theta(A(x + delta_u)), y), where A is SimCLR's
    augmentation with a strength, in the updates of both
    ([arXiv 2402.04010](https://arxiv.org/abs/2402.04010)). Made against supervised and
    contrastive learners.
    """

    version: ClassVar[str] = "2"  # in version 1, the surrogate subtracted 0.5 from its input

    needs = "labels"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    strength: float | None = option(
        None,
        "strength of the augmentation; none: 0.6 up to 10 classes, 1 above",
        minimum=0,
        maximum=1,
    )
    epochs: int = option(
        60, "number of rounds: an epoch of the surrogate, then a sweep of the noise", minimum=1
    )
    batch_size: int = option(128, "number of images in a batch", minimum=1)
    noise_steps: int = option(
        5, "number of sign-descent steps of a sweep, each of rho_u / 10", minimum=1
    )
    lr: float = option(
        0.1, "learning rate of the surrogate at the start; cosine to 1e-5 of it", minimum=0
    )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Alternate an epoch of the surrogate and a sweep over the noise of all images."""
        pixels, labels = harness.tensors(images)
        model = harness.network(images, centred=False)
        optimizer = sgd(model, lr=self.lr, weight_decay=1e-4)
        random = harness.random("generation")
        step = self.rho_u.value / 10
        noise = StoredNoise(tuple(pixels.shape), self.rho_u, step, harness.dtype, harness.device)
        harness.keep(noise=noise.tensor, model=model, optimizer=optimizer)
        radius = float(self.rho_u)
        strength = self.strength
        if strength is None:
            strength = 0.6 if images.classes <= 10 else 1.0

        def view(x: Tensor) -> Tensor:
            return contrastive_view(x, strength, harness.transform, random)

        def update(index: Tensor) -> None:
            views = view((harness.unit(pixels[index]) + noise.at(index)).clamp(0, 1))
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(views), labels[index]).backward()
            optimizer.step()

        def descend(index: Tensor, is_new: Tensor) -> None:
            x, y, old = harness.unit(pixels[index]), labels[index], noise.at(index)
            delta = old
            for _ in range(self.noise_steps):
                delta, gradient = sign_step(model, x, y, delta, -radius / 10, radius, view)
            harness.watch(gradient, index)
            noise.put(index, torch.where(is_new[:, None, None, None], delta, old))

        size = min(self.batch_size, len(images))
        model.train()
        updates = alternate_epochs(
            harness,
            update,
            descend,
            images=len(images),
            epochs=self.epochs,
            batches="generation order",
            batch_size=size,
            sweep_size=size,
            loop="rounds",
            reordered=False,
            before=lambda k: set_lr(optimizer, cosine(self.lr, 1e-5 * self.lr, k, self.epochs)),
        )
        refuse_divergence(model)
        harness.keep_surrogate(model, updates)
        return Poison.from_noise(images, noise.levels(), self.rho_u)

    def image_passes(self, images: int) -> float:
        """Count `noise_steps` + 1 passes of each image in each round."""
        size = min(self.batch_size, images)
        return float(self.epochs * (images // size * size + images * self.noise_steps))
