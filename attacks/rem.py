"""Robust error-minimizing noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import (
    Attack,
    Harness,
    ImageSet,
    Poison,
    Radius,
    UserError,
    option,
)
from unlearnable_bench.attacks.alternation import alternate
from unlearnable_bench.harness import (
    Random,
    input_gradient,
    pgd,
    random_transform,
    refuse_divergence,
    sgd,
)

_ADVERSARIAL = (
    "perturbation is pgd or rho_a is above 0",
    lambda attack: attack.rho_a or (attack.perturbation == "pgd" and attack.noise_rho_a),
)
Perturbation = Literal["pgd", "uniform", "gaussian", "none"]


@dataclass(frozen=True, kw_only=True)
class REM(Attack):
    """Robust error-minimizing noise (Fu et al., ICLR 2022).

    min over theta, delta_u of E_t max over delta_a of
    CE(f_theta(t(x + delta_u) + delta_a), y). Both phases see the worst delta_a.
    The other values of `perturbation`, and `noise_rho_a`, are the arms of the SEM
    paper's ablation: what the noise phase sees, apart from what the surrogate sees.
    """

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    rho_a: Radius = option(Radius("4/255"), "radius of the adversarial perturbation")
    steps: int = option(5000, "updates of the surrogate", minimum=1)
    batch_size: int = option(128, "images in a batch", minimum=1)
    lr: float = option(0.1, "learning rate of the surrogate, /10 at 40 % and 80 %", minimum=0)
    noise_steps: int = option(10, "descent steps of the noise", minimum=1)
    alpha_u: Radius | None = option(None, "length of a descent step; none: 2 rho_u / noise_steps")
    samples: int = option(5, "EOT samples of t per descent step", minimum=1)
    attack_steps: int = option(10, "number of PGD steps of delta_a", minimum=1, when=_ADVERSARIAL)
    alpha_a: Radius | None = option(
        None, "size of a PGD step; none: 2 rho_a / attack_steps", when=_ADVERSARIAL
    )
    perturbation: Perturbation = option(
        "pgd", "perturbation of the views when the noise is optimised"
    )
    noise_rho_a: Radius | None = option(
        None,
        "radius of that perturbation; none: rho_a, as for the surrogate",
        when=("perturbation is not none", lambda attack: attack.perturbation != "none"),
    )
    stop: int | None = option(
        None,
        "update after which the noise is extracted, at the learning rates of `steps`; none: the "
        "last",
        minimum=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # At `steps` it would be the noise without it, under another key.
        if self.stop is not None and self.stop >= self.steps:
            raise UserError(
                f"stop must be below steps, {self.steps}, got {self.stop}; "
                "none extracts the noise after the last update"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Alternate noise phase and generator phase, then extract all noise anew."""
        pixels, labels = harness.tensors(images)
        model = harness.network(images)
        optimizer = sgd(model, lr=self.lr)
        random = harness.random("generation")
        noise = torch.zeros_like(pixels, dtype=torch.int16)  # units of 1/255
        harness.keep(noise=noise, model=model, optimizer=optimizer)
        updates = self._updates
        # Not the noise: each visit and the extraction make it anew.
        harness.rejoin("surrogate", updates, model=model, optimizer=optimizer, random=random)

        def noise_phase(index: Tensor) -> Tensor:
            x, y = harness.unit(pixels[index]), labels[index].repeat(self.samples)
            radius = float(self.rho_u)
            length = self.rho_u.step(self.noise_steps, self.alpha_u)
            delta = random.uniform(*x.shape, low=-radius, high=radius).to(x.dtype)
            for _ in range(self.noise_steps):
                moved = x + delta
                clipped = moved.clamp(0, 1).requires_grad_()
                views = clipped.repeat(self.samples, 1, 1, 1)
                views = random_transform(views, harness.transform, random)
                at = self.perturb(views.detach(), lambda v: input_gradient(model, v, y), random)
                # Straight through: delta_a counts as a constant, t and the clamp do not.
                slope = torch.autograd.grad(views, clipped, input_gradient(model, at, y))[0]
                # The clamp lets gradients through at 0 and 1 themselves, as torch did when
                # the method was published; today's clamp does not.
                slope = slope * ((moved >= 0) & (moved <= 1))
                delta = delta - length * slope.sign()
                delta = delta.clamp(-radius, radius)
            harness.watch(slope, index)
            return (255 * delta).round().clamp(-self.rho_u.levels, self.rho_u.levels).short()

        def step(index: Tensor) -> None:
            noise[index] = noise_phase(index)
            y = labels[index]
            x = harness.unit(pixels[index] + noise[index])
            x = random_transform(x, harness.transform, random).clamp(0, 1)
            if self.rho_a:
                x = self._pgd(x, lambda v: input_gradient(model, v, y), self.rho_a, random)
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()

        def extract(index: Tensor, fresh: Tensor) -> None:
            kept = fresh[:, None, None, None]
            noise[index] = torch.where(kept, noise_phase(index), noise[index])

        def leave() -> None:
            if self.stop is not None:
                harness.leave("surrogate", updates, model=model, optimizer=optimizer, random=random)

        model.train()
        alternate(
            images,
            harness,
            optimizer,
            steps=self.steps,
            batch_size=self.batch_size,
            lr=self.lr,
            step=step,
            extract=extract,
            stop=self.stop,
            stopped=leave,
        )
        refuse_divergence(model)
        harness.keep_surrogate(model, updates)
        return Poison.from_noise(images, noise, self.rho_u)

    def perturb(
        self, views: Tensor, gradient: Callable[[Tensor], Tensor], random: Random
    ) -> Tensor:
        """Return the views [B, 3, H, W] as the noise phase sees them."""
        if self.perturbation == "none":
            return views
        radius = self._noise_radius
        if not radius:
            return views
        if self.perturbation == "pgd":
            return self._pgd(views, gradient, radius, random)
        bound = float(radius)
        if self.perturbation == "uniform":
            change = random.uniform(*views.shape, low=-bound, high=bound)
        else:
            change = bound * random.normal(*views.shape).to(views.dtype)
            change = change.clamp(-bound, bound)
        return (views + change).clamp(0, 1)

    def image_passes(self, images: int) -> float:
        """Count forward-and-backward passes: for REM 561 an image and step, for SEM 61."""
        adversarial = self.perturbation == "pgd" and self._noise_radius
        inner = self.attack_steps if adversarial else 0
        noise = self.noise_steps * self.samples * (inner + 1)
        generator = self.attack_steps + 1 if self.rho_a else 1
        per_step = min(self.batch_size, images) * (noise + generator)
        return float(self._updates * per_step + images * noise)

    @property
    def _updates(self) -> int:
        return self.steps if self.stop is None else self.stop

    @property
    def _noise_radius(self) -> Radius:
        return self.rho_a if self.noise_rho_a is None else self.noise_rho_a

    def _pgd(
        self, x: Tensor, gradient: Callable[[Tensor], Tensor], radius: Radius, random: Random
    ) -> Tensor:
        step = radius.step(self.attack_steps, self.alpha_a)
        return pgd(x, gradient, float(radius), step, self.attack_steps, random)
