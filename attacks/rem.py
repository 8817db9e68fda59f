"""Robust error-minimizing noise."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
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
    level_type,
    pgd,
    random_transform,
    refuse_divergence,
    sgd,
    zero_noise,
)

_ADVERSARIAL = (
    "perturbation is pgd or rho_a is above 0",
    lambda attack: attack.rho_a or (attack.perturbation == "pgd" and attack.noise_rho_a),
)
Perturbation = Literal["pgd", "uniform", "gaussian", "none"]
PERTURBATION_SUMMARY = (
    "perturbation of the views when the noise is optimised: pgd (REM), uniform (SEM), gaussian "
    "or none"
)


@dataclass(frozen=True, kw_only=True)
class REM(Attack):
    """Robust error-minimizing noise (Fu et al., ICLR 2022).

    min over theta and delta_u of E_t max over delta_a of
    CE(f_theta(t(x + delta_u) + delta_a), y), with delta_u and delta_a in the L-infinity balls
    of radius rho_u and rho_a and t a random crop and flip
    ([arXiv 2203.14533](https://arxiv.org/abs/2203.14533)). Surrogate and noise are both
    optimised against the worst-case delta_a. The other values of `perturbation`, and
    `noise_rho_a`, change the perturbation for the noise only: `uniform` is SEM, `none` an arm of
    the SEM paper's ablation, `gaussian` and `noise_rho_a` are ours.
    """

    needs = "labels"
    shardable: ClassVar[bool] = True

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    rho_a: Radius = option(
        Radius("4/255"), "radius of the adversarial perturbation delta_a, L-infinity"
    )
    steps: int = option(5000, "number of surrogate updates", minimum=1)
    batch_size: int = option(128, "number of images in a batch", minimum=1)
    lr: float = option(
        0.1, "learning rate of the surrogate, multiplied by 0.1 at 40 % and 80 %", minimum=0
    )
    noise_steps: int = option(10, "number of descent steps of the noise at each visit", minimum=1)
    alpha_u: Radius | None = option(None, "step size of the descent; none: 2 rho_u / noise_steps")
    samples: int = option(5, "number of EOT samples of t in each descent step", minimum=1)
    attack_steps: int = option(10, "number of PGD steps of delta_a", minimum=1, when=_ADVERSARIAL)
    alpha_a: Radius | None = option(
        None, "step size of PGD; none: 2 rho_a / attack_steps", when=_ADVERSARIAL
    )
    perturbation: Perturbation = option("pgd", PERTURBATION_SUMMARY)
    noise_rho_a: Radius | None = option(
        None,
        "radius of `perturbation`, L-infinity; none: rho_a, as for the surrogate",
        when=("perturbation is not none", lambda attack: attack.perturbation != "none"),
    )
    stop: int | None = option(
        None,
        "number of updates after which the noise is extracted, below steps; the learning-rate "
        "schedule is that of all steps; none: steps",
        minimum=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # stop = steps would give the noise of stop = none under another key.
        if self.stop is not None and self.stop >= self.steps:
            raise UserError(
                f"stop must be below steps, {self.steps}, got {self.stop}; "
                "set it to none to extract the noise after the last update"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Alternate noise and surrogate updates, then generate the noise of all images again."""
        pixels, labels = harness.tensors(images)
        model = harness.network(images)
        optimizer = sgd(model, lr=self.lr)
        random = harness.random("generation")
        noise = zero_noise(pixels.shape, level_type(self.rho_u), harness.device)  # units of 1/255
        harness.keep(noise=noise, model=model, optimizer=optimizer)
        updates = self._updates
        # Without the noise, which every visit and the extraction generate from a new start.
        harness.rejoin("surrogate", updates, model=model, optimizer=optimizer, random=random)

        @harness.sharded
        def noise_phase(index: Tensor) -> tuple[Tensor, Tensor]:
            x, y = harness.unit(pixels[index]), labels[index].repeat(self.samples)
            radius = float(self.rho_u)
            step_size = self.rho_u.step_size(self.noise_steps, self.alpha_u)
            delta = random.uniform(*x.shape, low=-radius, high=radius).to(x.dtype)
            for _ in range(self.noise_steps):
                moved = x + delta
                clipped = moved.clamp(0, 1).requires_grad_()
                views = clipped.repeat(self.samples, 1, 1, 1)
                views = random_transform(views, harness.transform, random)
                at = self.perturb(views.detach(), lambda v: input_gradient(model, v, y), random)
                # delta_a is a constant; gradients flow through t and the clamp.
                gradient = torch.autograd.grad(views, clipped, input_gradient(model, at, y))[0]
                # The clamp passes gradients at exactly 0 and 1, as torch's did when the method
                # was published; today's does not.
                gradient = gradient * ((moved >= 0) & (moved <= 1))
                delta = delta - step_size * gradient.sign()
                delta = delta.clamp(-radius, radius)
            levels = (255 * delta).round().clamp(-self.rho_u.levels, self.rho_u.levels)
            return levels.to(noise.dtype), gradient

        @harness.sharded
        def adversarial_views(index: Tensor) -> Tensor:
            x = harness.unit(pixels[index] + noise[index])
            x = random_transform(x, harness.transform, random).clamp(0, 1)
            if self.rho_a:
                y = labels[index]
                x = self._pgd(x, lambda v: input_gradient(model, v, y), self.rho_a, random)
            return x

        def new_noise(index: Tensor) -> Tensor:
            levels, gradient = noise_phase(index)
            harness.watch(gradient, index)
            return levels

        def step(index: Tensor) -> None:
            noise[index] = new_noise(index)
            x, y = adversarial_views(index), labels[index]
            optimizer.zero_grad(set_to_none=True)

            def clean() -> Tensor:
                return random_transform(harness.unit(pixels[index]), harness.transform, random)

            self.surrogate_loss(model, x, y, clean).backward()
            optimizer.step()

        def extract(index: Tensor, is_new: Tensor) -> None:
            new = is_new[:, None, None, None]
            noise[index] = torch.where(new, new_noise(index), noise[index])

        leave = partial(
            harness.leave, "surrogate", updates, model=model, optimizer=optimizer, random=random
        )
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
            stopped=leave if self.stop is not None else lambda: None,
        )
        refuse_divergence(model)
        harness.keep_surrogate(model, updates)
        return Poison.from_noise(images, noise, self.rho_u)

    def surrogate_loss(
        self, model: nn.Module, x: Tensor, y: Tensor, clean: Callable[[], Tensor]
    ) -> Tensor:
        """Return the loss of the surrogate, a scalar: the mean cross-entropy.

        Args:
            model: the surrogate, in train mode.
            x: perturbed views of the poisoned images, float [B, 3, H, W] in [0, 1].
            y: labels, int64 [B].
            clean: draws views of the clean images, float [B, 3, H, W] in [0, 1].
        """
        return functional.cross_entropy(model(x), y)

    def perturb(
        self, views: Tensor, gradient: Callable[[Tensor], Tensor], random: Random
    ) -> Tensor:
        """Perturb the views for the noise phase as `perturbation` says.

        Args:
            views: float [B, 3, H, W] in [0, 1].
            gradient: returns d loss / d views at given views, for pgd.
            random: stream of the draws.

        Returns:
            The perturbed views, float [B, 3, H, W] in [0, 1].
        """
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
        """Count forward-and-backward passes: 561 per image and step for REM, 61 for SEM."""
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
        step_size = radius.step_size(self.attack_steps, self.alpha_a)
        return pgd(x, gradient, float(radius), step_size, self.attack_steps, random)
