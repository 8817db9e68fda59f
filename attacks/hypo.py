"""Hypocritical perturbations."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, Radius, option
from unlearnable_bench.attacks._each_image import optimise_each
from unlearnable_bench.attacks._own_network import train_network
from unlearnable_bench.attacks._shifts import shifted
from unlearnable_bench.harness import (
    central_view,
    input_gradient,
    level_type,
    pgd,
    random_transform,
    sgd,
    zero_noise,
)


@dataclass(frozen=True, kw_only=True)
class HYPO(Attack):
    """Hypocritical perturbations: noise that makes each image easier (NeurIPS 2022).

    A network f is trained adversarially on the clean images for a few epochs; then
    min over delta_u of E_t CE(f(t(x + delta_u)), y) for the true label by sign descent, with a new
    shift and mirroring t in each step ([arXiv 2201.13329](https://arxiv.org/abs/2201.13329)). Made
    against the robust accuracy of adversarial training rather than its clean accuracy. `norm`
    gives the earlier L2 form, P2 of [arXiv 2102.04716](https://arxiv.org/abs/2102.04716).
    """

    # In version 1, noise was made through crops by whole pixels, and steps of the adversarial
    # training were 2 adversary / attack_steps.
    version: ClassVar[str] = "2"

    needs = "labels"

    rho_u: Radius = option(
        Radius("8/255"),
        "radius of the noise, L-infinity",
        when=("norm is none", lambda attack: attack.norm is None),
    )
    norm: float | None = option(
        None,
        "L2 norm of the noise in units of the pixel range, with steps of a fifth of it and without "
        "shifts and mirroring; none: L-infinity",
        minimum=0.01,
    )
    steps: int = option(100, "number of descent steps, each of rho_u / 10 (of norm / 5)", minimum=1)
    adversary: Radius = option(
        Radius("2/255"), "radius of the network's adversarial training, L-infinity; 0: standard"
    )
    attack_steps: int = option(
        10,
        "number of PGD steps in this training, each of a quarter of `adversary`",
        minimum=1,
        when=("adversary is above 0", lambda attack: attack.adversary),
    )
    epochs: int = option(10, "number of epochs of the network", minimum=1)
    lr: float = option(0.1, "learning rate of the network, constant", minimum=0)
    batch_size: int = option(128, "number of images in a batch", minimum=1)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Train the network, then descend from zero noise for every image."""
        pixels, labels = harness.tensors(images)
        model = harness.network(images)
        optimizer = sgd(model, lr=self.lr)
        random = harness.random("generation")
        # In whole units of 1/255, since no step starts from stored noise.
        kind = level_type(self.rho_u) if self.norm is None else torch.int16
        noise = zero_noise(pixels.shape, kind, harness.device)
        harness.keep(noise=noise, model=model, optimizer=optimizer)

        def update(index: Tensor) -> None:
            y = labels[index]
            x = random_transform(harness.unit(pixels[index]), harness.transform, random)
            if self.adversary:
                radius, count = float(self.adversary), self.attack_steps
                x = pgd(x, lambda v: input_gradient(model, v, y), radius, radius / 4, count, random)
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()

        total = train_network(
            harness,
            model,
            update,
            images=len(images),
            batch_size=self.batch_size,
            epochs=self.epochs,
        )
        size = min(self.batch_size, len(images))
        delta = torch.zeros((size, *pixels.shape[1:]), dtype=harness.dtype, device=harness.device)

        def step(index: Tensor) -> None:
            x, y = harness.unit(pixels[index]), labels[index]
            at = (x + delta).clamp(0, 1).requires_grad_()
            views = at if self.norm else shifted(at, random, mirrors=harness.transform.flip)
            views = central_view(views, harness.transform)
            gradient = torch.autograd.grad(views, at, input_gradient(model, views, y))[0]
            harness.watch(gradient, index)
            delta.copy_((x + self._moved(delta, gradient)).clamp(0, 1) - x)

        optimise_each(harness, step, lambda _: delta.zero_(), self.steps, delta, noise)
        harness.keep_surrogate(model, total)
        if self.norm is None:
            return Poison.from_noise(images, noise, self.rho_u)
        whole = Poison.from_noise(images, noise, Radius("255/255"))
        return Poison(whole.images, Budget("l2", self.norm))

    def image_passes(self, images: int) -> float:
        """Count the passes of the network's training and of the descent."""
        size = min(self.batch_size, images)
        inner = self.attack_steps + 1 if self.adversary else 1
        return float(self.epochs * (images // size * size) * inner + self.steps * images)

    def _moved(self, delta: Tensor, gradient: Tensor) -> Tensor:
        """Return the noise [B, 3, H, W] after a step of descent, inside the ball."""
        if self.norm is None:
            radius = float(self.rho_u)
            return (delta - radius / 10 * gradient.sign()).clamp(-radius, radius)
        moved = delta - self.norm / 5 * gradient / _norms(gradient).clamp(min=1e-20)
        inside: Tensor = moved * (self.norm / _norms(moved).clamp(min=1e-20)).clamp(max=1)
        return inside


def _norms(values: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values, dim=(1, 2, 3), keepdim=True)
    return norms
