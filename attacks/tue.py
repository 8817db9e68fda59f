"""Transferable unlearnable examples."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import (
    Attack,
    Budget,
    Harness,
    ImageSet,
    Poison,
    Radius,
    UserError,
    option,
)
from unlearnable_bench.attacks._contrastive import contrastive_view
from unlearnable_bench.attacks._moco import MoCo
from unlearnable_bench.attacks._rounds import alternate_epochs
from unlearnable_bench.harness import StoredNoise, refuse_divergence

_MOCO = ("variant is moco", lambda attack: attack.variant == "moco")
_TINY = 255e-5  # 1e-5 in units of the pixel range, in levels


@dataclass(frozen=True, kw_only=True)
class TUE(Attack):
    """Transferable unlearnable examples (TUE; Ren et al., ICLR 2023).

    Sign descent on the class-wise separability discriminant of the noise of each batch: the mean
    over pairs of classes of (s_i + s_j) / |c_i - c_j|, with the mean c of a class and the mean
    distance s from it, a constant ([arXiv 2210.10114](https://arxiv.org/abs/2210.10114)).

    `variant=simclr` is the authors' command of this name, and that for SimSiam. They give the
    contrastive loss weight 0, so that the noise does not depend on their network; this form
    leaves the network out. In `variant=moco` the noise of a batch descends the sum of the
    discriminant and the loss of momentum contrast, whose network is trained on x + delta_u in
    turn.
    """

    version: ClassVar[str] = "2"  # version 1 separated the noise after the clamp to [0, 1]

    needs = "labels"

    # Of `simclr`; `moco` trains its own.
    surrogate: ClassVar[Literal["none", "own"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    variant: Literal["simclr", "moco"] = option(
        "simclr",
        "command of the authors: simclr (the discriminant alone, without a network) or moco (with "
        "the loss of momentum contrast)",
    )
    sweeps: int = option(
        6,
        "number of passes over the training set",
        minimum=1,
        when=("variant is simclr", lambda attack: attack.variant == "simclr"),
    )
    steps: int | None = option(
        None,
        "number of sign-descent steps of a batch in a pass, each of rho_u / 10; none: simclr 20, "
        "moco 5",
        minimum=1,
    )
    batch_size: int = option(
        512, "number of images whose classes are separated, and in a batch of moco", minimum=2
    )
    epochs: int = option(
        200, "number of epochs of the encoder, each followed by a pass", minimum=1, when=_MOCO
    )
    separation: float = option(
        1.0, "weight of the discriminant, relative to the contrastive loss", minimum=0, when=_MOCO
    )
    temperature: float = option(
        0.2, "temperature of the contrastive loss", minimum=1e-3, when=_MOCO
    )
    queue: int = option(4096, "number of keys in the queue", minimum=2, when=_MOCO)
    momentum: float = option(
        0.99, "share of the key's weights that an update keeps", minimum=0, maximum=1, when=_MOCO
    )
    splits: int = option(
        8,
        "number of parts of a batch that BatchNorm normalises separately in training",
        minimum=1,
        when=_MOCO,
    )
    lr: float = option(0.3, "learning rate of the encoder, constant", minimum=0, when=_MOCO)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant == "moco":
            object.__setattr__(self, "surrogate", "own")

    def check(self, images: ImageSet) -> None:
        """Refuse batches that momentum contrast cannot use.

        Raises:
            UserError: the training set or the queue has fewer images than a batch, or a part of a
                batch that is normalised has fewer than two.
        """
        if self.variant == "simclr":
            return
        size, splits = self.batch_size, self.splits
        if len(images) < size:
            raise UserError(
                f"tue.variant=moco takes batches of {size} images, and the training set has "
                f"{len(images)}; lower tue.batch_size"
            )
        if self.queue % size:
            raise UserError(
                f"tue.queue={self.queue} must be a multiple of tue.batch_size, {size}; use --set "
                f"tue.queue={max(1, self.queue // size) * size}"
            )
        if size % splits or size == splits:
            raise UserError(
                f"tue.splits={splits} must divide tue.batch_size, {size}, into parts of two images "
                "or more; use --set tue.splits=1, or another size"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Separate the classes of shuffled batches; in `moco` between epochs of the encoder."""
        return (
            self._moco(images, harness) if self.variant == "moco" else self._simclr(images, harness)
        )

    def image_passes(self, images: int) -> float:
        """Count the passes of both encoders, those without a gradient as a third; simclr has 0."""
        if self.variant == "simclr":
            return 0
        size = min(self.batch_size, images)
        updates, visits = images // size * size, -(-images // size) * size
        return self.epochs * (updates * 4 / 3 + visits * self._steps * 2)

    @property
    def _steps(self) -> int:
        return self.steps or (5 if self.variant == "moco" else 20)

    def _simclr(self, images: ImageSet, harness: Harness) -> Poison:
        """Descend the discriminant from a uniform random start."""
        pixels, labels = harness.tensors(images)
        pixels = pixels.reshape(len(images), -1)
        bound = 255 * float(self.rho_u)
        start, order = harness.random("start"), harness.random("order")
        # In levels, steps and bound need few digits, so that 16 bits do.
        kept = harness.dtype if harness.precision == "fp64" else torch.float16
        noise = torch.empty(pixels.shape, dtype=kept, device=harness.device)
        for part in torch.arange(len(pixels), device=harness.device).split(self.batch_size):
            drawn = start.uniform(len(part), pixels.shape[1]).to(harness.dtype)
            noise[part] = (bound * (2 * drawn - 1)).to(kept)
        harness.keep(noise=noise)
        for _ in harness.loop("sweeps", self.sweeps):
            for batch in order.permutation(len(pixels)).split(self.batch_size):
                x, delta = pixels[batch].to(harness.dtype), noise[batch].to(harness.dtype)
                one_hot = functional.one_hot(labels[batch], images.classes).to(harness.dtype)
                lowest, highest = -x, 255 - x
                for _step in range(self._steps):
                    pattern = _apart(delta, one_hot).sign_()
                    delta.clamp_(lowest, highest)
                    delta.addmm_(one_hot, pattern, alpha=bound / 10).clamp_(-bound, bound)
                noise[batch] = delta.to(kept)
        for part in torch.arange(len(pixels), device=harness.device).split(self.batch_size):
            levels = noise[part].to(harness.dtype).round()
            levels = levels.clamp(-self.rho_u.levels, self.rho_u.levels)
            pixels[part] = (pixels[part] + levels).clamp(0, 255).to(torch.uint8)
        shape = (len(images), 3, images.size, images.size)
        found = pixels.reshape(shape).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return Poison(found, Budget("linf", self.rho_u))

    def _moco(self, images: ImageSet, harness: Harness) -> Poison:
        """Alternate epochs of the encoders and passes of the noise, from zero."""
        pixels, labels = harness.tensors(images)
        moco = MoCo(
            images,
            harness,
            temperature=self.temperature,
            momentum=self.momentum,
            length=self.queue,
            splits=self.splits,
            lr=self.lr,
        )
        random, step = harness.random("views"), self.rho_u.value / 10
        noise = StoredNoise(tuple(pixels.shape), self.rho_u, step, harness.dtype, harness.device)
        harness.keep(
            noise=noise.tensor,
            query=moco.query,
            key=moco.key,
            optimizer=moco.optimizer,
            queue=moco.queue,
            place=moco.place,
        )
        radius, classes = float(self.rho_u), torch.arange(images.classes, device=harness.device)

        def view(x: Tensor, *, alike: bool = False) -> Tensor:
            return contrastive_view(x, 1.0, harness.transform, random, area=0.08, alike=alike)

        def update(index: Tensor) -> None:
            moco.update(harness.unit(pixels[index]) + noise.at(index), view)

        def descend(index: Tensor, is_new: Tensor) -> None:
            x, old = harness.unit(pixels[index]), noise.at(index)
            one_hot = (labels[index, None] == classes).to(harness.dtype)
            delta = old
            for _ in range(self._steps):
                gradient = moco.gradient(x + delta, partial(view, alike=True))
                gradient = gradient + self.separation * _separating(delta, one_hot)
                delta = (x + delta).clamp(0, 1) - x - float(step) * gradient.sign()
                delta = delta.clamp(-radius, radius)
            harness.watch(gradient, index)
            noise.put(index, torch.where(is_new[:, None, None, None], delta, old))

        alternate_epochs(
            harness,
            update,
            descend,
            images=len(images),
            epochs=self.epochs,
            batches="encoder order",
            batch_size=self.batch_size,
            sweep_size=self.batch_size,
            loop="alternation",
        )
        refuse_divergence(moco.query)
        return Poison.from_noise(images, noise.levels(), self.rho_u)


def _separating(delta: Tensor, one_hot: Tensor) -> Tensor:
    """Return the gradient of the discriminant with respect to noise; 0 for a single class.

    Args:
        delta: noise of a batch in units of the pixel range, float [B, 3, H, W].
        one_hot: classes, float [B, C].

    Returns:
        The gradient, float [B, 3, H, W].
    """
    counts = one_hot.sum(0).clamp(min=1)
    present = one_hot.any(0).sum().to(delta.dtype)
    pairs = (present * (present - 1)).clamp(min=1)
    direction = _apart(255 * delta.flatten(1), one_hot) / counts[:, None]
    return (one_hot @ direction * (-2 * 255 / pairs)).reshape(delta.shape)


def _apart(delta: Tensor, one_hot: Tensor) -> Tensor:
    """Return minus the gradient of the discriminant at the class means, up to a factor.

    Args:
        delta: noise of a batch in levels, float [B, D].
        one_hot: classes, float [B, C].

    Returns:
        The direction of each class, float [C, D]; 0 for a class without images in the batch.
    """
    counts = one_hot.sum(0).clamp(min=1)
    centres = (one_hot / counts).T @ delta
    own = (one_hot * (delta @ centres.T)).sum(1)
    squares = (
        torch.linalg.vector_norm(delta, dim=1).square()
        - 2 * own
        + one_hot @ centres.square().sum(1)
    )
    spreads = one_hot.T @ squares.clamp(min=0).sqrt() / counts
    distances = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
    weights = spreads[:, None] + spreads + _TINY
    weights = weights / ((distances + _TINY).square() * distances)
    present = one_hot.any(0)
    pairs = present[:, None] & present & (distances > 0)
    weights = torch.where(pairs, weights, 0)
    direction: Tensor = weights.sum(1, keepdim=True) * centres - weights @ centres
    return direction
