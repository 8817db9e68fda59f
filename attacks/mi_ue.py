"""Unlearnable examples that reduce the mutual information of clean and poisoned features."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Attack, Harness, ImageSet, Learner, Poison, Radius, UserError, option
from unlearnable_bench.attacks._rounds import alternate_epochs, cosine
from unlearnable_bench.harness import (
    StoredNoise,
    batch_gradient,
    input_gradient,
    pgd,
    refuse_divergence,
    refuse_featureless,
    set_lr,
    sgd,
)
from unlearnable_bench.schedule import Training

_LAST_LR = 1e-6
_ATTACK_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class MIUE(Attack):
    """Mutual-information unlearnable examples (MI-UE, ICLR 2026).

    Alternates epochs of a surrogate on x + delta_u and sweeps over all noise, which descends the
    supervised contrastive loss of the pooled features z of a batch, so that features of a class
    coincide: the mean over i of -log(sum over j of class y_i of e_ij / sum over j of e_ij), with
    e_ij = exp(cos(z_i, z_j) / temperature), plus zeta times the mean of
    log(1 + sum over j of class y_i of |z_i - z_j| / D)
    ([arXiv 2603.03725](https://arxiv.org/abs/2603.03725)).

    `variant=misaligned` is the command of the authors' code: images are mirrored and their noise is
    not, in both phases. `rho_a` is that code's option of a PGD adversary in the surrogate's
    updates: 10 steps from the poisoned images.
    """

    # In version 1, the step size was constant, and the misaligned form trained on noise mirrored
    # with its image. In version 2, the surrogate did not subtract 0.5.
    version: ClassVar[str] = "3"

    needs = "labels"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    variant: Literal["aligned", "misaligned"] = option(
        "aligned",
        "noise of a mirrored view: aligned (mirrored too) or misaligned (as it is: the authors' "
        "code)",
    )
    epochs: int = option(100, "number of epochs, each followed by a sweep", minimum=1)
    noise_steps: int = option(10, "number of descent steps of the noise in a sweep", minimum=1)
    alpha_u: Radius | None = option(
        None, "step size of the descent in the first sweep; none: rho_u / 40"
    )
    last_alpha_u: Radius | None = option(
        None,
        "step size towards which it moves evenly from sweep to sweep; none: rho_u / (2 "
        "noise_steps)",
    )
    rho_a: Radius | None = option(
        None,
        "radius of the adversarial perturbation of the surrogate's images, L-infinity; none: no "
        "perturbation",
    )
    alpha_a: Radius | None = option(
        None,
        "step size of this perturbation by 10 steps of PGD; none: rho_a / 5",
        when=("rho_a is above 0", lambda attack: attack.rho_a),
    )
    temperature: float = option(0.1, "temperature of the contrastive loss", minimum=1e-3)
    zeta: float = option(0.1, "weight of the distances within classes", minimum=0)
    batch_size: int = option(128, "number of images in a batch of the surrogate", minimum=1)
    sweep_size: int = option(
        512, "number of images whose features are compared in a sweep", minimum=2
    )
    lr: float = option(
        0.1, "learning rate of the surrogate at the start; cosine to 1e-6 by epochs", minimum=0
    )

    def check(self, images: ImageSet) -> None:
        """Refuse step sizes of 0.

        Raises:
            UserError: the noise would stay where it starts, at 0.
        """
        if not any(self._step_sizes):
            raise UserError(
                "mi-ue.alpha_u=0 and mi-ue.last_alpha_u=0: the noise starts at 0 and would stay "
                "there; give a step size above 0, such as 0.2/255"
            )

    def check_surrogate(self, images: ImageSet, learner: Learner, training: Training) -> None:
        """Refuse an architecture without pooled features."""
        refuse_featureless(learner, images.classes, images.size)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Alternate epochs of the surrogate and sweeps of the noise, which is warm-started."""
        pixels, labels = harness.tensors(images)
        model = harness.network(images, size=images.size)
        features = harness.features(model)
        optimizer = sgd(model, lr=self.lr, weight_decay=1e-4)
        random = harness.random("mirrors")
        noise = StoredNoise(
            tuple(pixels.shape), self.rho_u, self._grid(), harness.dtype, harness.device
        )
        harness.keep(noise=noise.tensor, model=model, optimizer=optimizer)
        mirrors, aligned = harness.transform.flip, self.variant == "aligned"
        radius = float(self.rho_u)
        step_size = torch.zeros((), dtype=harness.dtype, device=harness.device)

        def mirrored_or_not(count: int) -> Tensor:
            if not mirrors:
                return torch.zeros(count, dtype=torch.bool, device=harness.device)
            return random.integers(2, count) == 1

        def update(index: Tensor) -> None:
            flip = mirrored_or_not(len(index))
            x, delta = harness.unit(pixels[index]), noise.at(index)
            x = _mirrored(x + delta, flip) if aligned else _mirrored(x, flip) + delta
            if self.rho_a:
                step_length = self.rho_a.step_size(_ATTACK_STEPS, self.alpha_a)
                slope = partial(input_gradient, model, y=labels[index])
                x = pgd(x, slope, float(self.rho_a), step_length, _ATTACK_STEPS)
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), labels[index]).backward()
            optimizer.step()

        def descend(index: Tensor, is_new: Tensor) -> None:
            flip, y, old = mirrored_or_not(len(index)), labels[index], noise.at(index)
            x = _mirrored(harness.unit(pixels[index]), flip)
            delta = _mirrored(old, flip) if aligned else old
            for _ in range(self.noise_steps):
                gradient = batch_gradient(features, x + delta, lambda z: self.loss(z, y))
                delta = (delta - step_size * gradient.sign()).clamp(-radius, radius)
                delta = (x + delta).clamp(0, 1) - x
            harness.watch(gradient, index)
            delta = _mirrored(delta, flip) if aligned else delta
            noise.put(index, torch.where(is_new[:, None, None, None], delta, old))

        def set_sizes(epoch: int) -> None:
            last = min(_LAST_LR, self.lr)
            set_lr(optimizer, cosine(self.lr, last, epoch, self.epochs))
            step_size.fill_(float(self._step_size(epoch)))

        model.train()
        updates = alternate_epochs(
            harness,
            update,
            descend,
            images=len(images),
            epochs=self.epochs,
            batches="surrogate order",
            batch_size=self.batch_size,
            sweep_size=self.sweep_size,
            loop="alternation",
            before=set_sizes,
        )
        refuse_divergence(model)
        harness.keep_surrogate(model, updates)
        return Poison.from_noise(images, noise.levels(), self.rho_u)

    def loss(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            z: pooled features, float [B, D].
            y: labels, int64 [B].
        """
        unit = functional.normalize(z, dim=1)
        similarity = unit @ unit.T / self.temperature
        same = y[:, None] == y
        within = similarity.masked_fill(~same, -math.inf).logsumexp(1)
        loss = (similarity.logsumexp(1) - within).mean()
        if self.zeta:
            spread = _distances(z, same).sum(1) / z.shape[1]
            loss = loss + self.zeta * spread.log1p().mean()
        return loss

    @property
    def _step_sizes(self) -> tuple[Fraction, Fraction]:
        """The step size of the first sweep, and the one towards which it moves."""
        last = self.rho_u.exact_step(4 * self.noise_steps, self.last_alpha_u)
        return self.rho_u.exact_step(80, self.alpha_u), last

    def _step_size(self, epoch: int) -> Fraction:
        """Return the step size of the sweep after an epoch, from 0."""
        first, last = self._step_sizes
        return first + (last - first) * Fraction(epoch, self.epochs)

    def _grid(self) -> Fraction:
        """Return the largest number of which all step sizes are multiples."""
        first, change = self._step_size(0), abs(self._step_size(1) - self._step_size(0))
        whole = math.lcm(first.denominator, change.denominator)
        return Fraction(math.gcd(int(first * whole), int(change * whole)), whole)

    def image_passes(self, images: int) -> float:
        """Count forward-and-backward passes: 11 per image and epoch by default."""
        size = min(self.batch_size, images)
        inner = _ATTACK_STEPS + 1 if self.rho_a else 1
        return float(self.epochs * (images // size * size * inner + images * self.noise_steps))


def _mirrored(x: Tensor, flip: Tensor) -> Tensor:
    """Return images, float [B, 3, H, W], mirrored where `flip`, bool [B], is true."""
    return torch.where(flip[:, None, None, None], x.flip(3), x)


def _distances(z: Tensor, same: Tensor) -> Tensor:
    """Return the distances of features within classes, 0 between classes, float [B, B].

    Equal features have the gradient 0.

    Args:
        z: features, float [B, D].
        same: whether two are of one class, bool [B, B].
    """
    members = same.to(z.dtype)
    # By products, ten times as fast as torch.cdist; around the mean of each class, so that features
    # that nearly coincide keep their digits.
    apart = z - (members @ z / members.sum(1, keepdim=True)).detach()
    norms = apart.square().sum(1)
    squares = norms[:, None] + norms - 2 * apart @ apart.T
    counted = same & (squares > 0) & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    return torch.where(counted, torch.where(counted, squares, 1).sqrt(), 0)
