"""Targeted adversarial poisoning."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Attack, Harness, ImageSet, Poison, Radius, clean_network, option
from unlearnable_bench.harness import central_view, input_gradient, random_transform, sweep


@dataclass(frozen=True, kw_only=True)
class TAP(Attack):
    """Targeted adversarial poisoning (Fowl et al., NeurIPS 2021), as in the REM and SEM code.

    Adversarial examples of a network trained on the clean images, towards the label
    (y + 1) mod C; each step sees one random crop and flip. `untargeted` ascends the loss
    of the true label instead, as APBench does.
    """

    surrogate: ClassVar[Literal["clean"]] = "clean"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    steps: int = option(250, "PGD steps", minimum=1)
    alpha_u: Radius | None = option(None, "length of a step; none: 2 rho_u / steps")
    untargeted: bool = option(False, "away from the true label instead of towards the next one")
    restarts: int = option(1, "the best of so many noises for the whole set is kept", minimum=1)
    batch_size: int = option(500, "images at once; no influence on the noise", minimum=1)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Attack every image of the set with the clean network."""
        model = clean_network(images, harness)
        pixels, labels = harness.tensors(images)
        targets = labels if self.untargeted else (labels + 1) % images.classes
        sign = 1 if self.untargeted else -1
        radius, length = float(self.rho_u), self.rho_u.step(self.steps, self.alpha_u)
        random = harness.random("generation")
        visits = list(sweep(len(images), self.batch_size, harness.device))
        size = len(visits[0][0])
        shape = (size, *pixels.shape[1:])
        x = torch.zeros(shape, dtype=harness.dtype, device=harness.device)
        delta, y = torch.zeros_like(x), torch.zeros(size, dtype=torch.int64, device=harness.device)
        noise = torch.zeros(pixels.shape, dtype=harness.dtype, device=harness.device)
        best, losses = noise.clone(), torch.full((self.restarts,), 0.0, dtype=torch.float64)
        harness.keep(noise=noise, best=best, losses=losses)

        def step(index: Tensor) -> None:
            moved = x + delta
            clipped = moved.clamp(0, 1).requires_grad_()
            views = random_transform(clipped, harness.transform, random)
            slope = torch.autograd.grad(views, clipped, input_gradient(model, views, y))[0]
            slope = slope * ((moved >= 0) & (moved <= 1))
            harness.watch(slope, index)
            delta.copy_((delta + sign * length * slope.sign()).clamp(-radius, radius))

        captured = harness.capture(step)
        for k in harness.loop("attack", self.restarts * len(visits)):
            restart, visit = divmod(k, len(visits))
            index, fresh = visits[visit]
            x.copy_(harness.unit(pixels[index]))
            y.copy_(targets[index])
            delta.copy_(random.uniform(*shape, low=-radius, high=radius))
            for _ in range(self.steps):
                captured(index)
            kept = fresh[:, None, None, None]
            noise[index] = torch.where(kept, delta, noise[index])
            with torch.no_grad():
                views = central_view((x + delta).clamp(0, 1), harness.transform)
                logits = model.uncompiled(views)
            found = functional.cross_entropy(logits, y, reduction="none")
            losses[restart] -= sign * float((found * fresh).sum()) / len(images)
            if visit + 1 == len(visits) and restart == int(losses[: restart + 1].argmin()):
                best.copy_(noise)
        notes = {"loss": float(-sign * losses.min())}
        return Poison.from_noise(images, 255 * best, self.rho_u, notes)

    def image_passes(self, images: int) -> float:
        """Count the attack's passes and, beside them, none of the clean training's."""
        return float(self.restarts * self.steps * images)
