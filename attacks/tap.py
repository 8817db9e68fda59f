"""Targeted adversarial poisoning."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Attack, Harness, ImageSet, Poison, Radius, clean_network, option
from unlearnable_bench.harness import (
    central_view,
    input_gradient,
    level_type,
    random_transform,
    sweep,
    zero_noise,
)


@dataclass(frozen=True, kw_only=True)
class TAP(Attack):
    """Targeted adversarial poisoning (Fowl et al., NeurIPS 2021), in the form of the REM code.

    min over delta_u of E_t CE(f(t(x + delta_u)), (y + 1) mod C) by PGD, for a network f trained
    on the clean images; each step draws one random crop and flip t
    ([arXiv 2106.10807](https://arxiv.org/abs/2106.10807)). The step size is that of the authors,
    rho_u / 20. `untargeted` maximises the loss of the true label instead, as APBench does.
    """

    needs = "labels"
    version: ClassVar[str] = "2"  # in version 1, the step size was 2 rho_u / steps

    surrogate: ClassVar[Literal["clean"]] = "clean"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    steps: int = option(250, "number of PGD steps", minimum=1)
    alpha_u: Radius | None = option(None, "step size of PGD; none: rho_u / 20")
    untargeted: bool = option(
        False, "direction of the attack: true away from the true label, false towards the next one"
    )
    restarts: int = option(
        1,
        "number of random starts for the whole training set; the one with the best mean loss "
        "becomes the noise",
        minimum=1,
    )
    batch_size: int = option(
        500, "number of images attacked together; does not change the noise", minimum=1
    )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Attack every image of the training set against the clean network."""
        pixels, labels = harness.tensors(images)
        # In whole units of 1/255, since no step starts from stored noise.
        kind, copies = level_type(self.rho_u), min(2, self.restarts)
        noise = zero_noise(pixels.shape, kind, harness.device, copies)
        model = clean_network(images, harness)
        targets = labels if self.untargeted else (labels + 1) % images.classes
        sign = 1 if self.untargeted else -1
        radius = float(self.rho_u)
        step_size = radius / 20 if self.alpha_u is None else float(self.alpha_u)
        random = harness.random("generation")
        visits = list(sweep(len(images), self.batch_size, harness.device))
        size = len(visits[0][0])
        shape = (size, *pixels.shape[1:])
        x = torch.zeros(shape, dtype=harness.dtype, device=harness.device)
        delta, y = torch.zeros_like(x), torch.zeros(size, dtype=torch.int64, device=harness.device)
        best = noise if copies == 1 else noise.clone()
        losses = torch.zeros(self.restarts, dtype=torch.float64)
        both = {"best": best} if copies == 2 else {}
        harness.keep(noise=noise, losses=losses, **both)

        def step(index: Tensor) -> None:
            moved = x + delta
            clipped = moved.clamp(0, 1).requires_grad_()
            views = random_transform(clipped, harness.transform, random)
            gradient = torch.autograd.grad(views, clipped, input_gradient(model, views, y))[0]
            gradient = gradient * ((moved >= 0) & (moved <= 1))
            harness.watch(gradient, index)
            delta.copy_((delta + sign * step_size * gradient.sign()).clamp(-radius, radius))

        captured = harness.capture(step)
        for k in harness.loop("attack", self.restarts * len(visits)):
            restart, visit = divmod(k, len(visits))
            index, is_new = visits[visit]
            x.copy_(harness.unit(pixels[index]))
            y.copy_(targets[index])
            delta.copy_(random.uniform(*shape, low=-radius, high=radius))
            for _ in range(self.steps):
                captured(index)
            levels = (255 * delta).round().to(noise.dtype)
            noise[index] = torch.where(is_new[:, None, None, None], levels, noise[index])
            with torch.no_grad():
                views = central_view((x + delta).clamp(0, 1), harness.transform)
                logits = model.uncompiled(views)
            loss = functional.cross_entropy(logits, y, reduction="none")
            losses[restart] -= sign * float((loss * is_new).sum()) / len(images)
            if visit + 1 == len(visits) and restart == int(losses[: restart + 1].argmin()):
                best.copy_(noise)
        notes = {"loss": float(-sign * losses.min())}
        return Poison.from_noise(images, best, self.rho_u, notes)

    def image_passes(self, images: int) -> float:
        """Count the passes of the attack, without those of the clean training."""
        return float(self.restarts * self.steps * images)
