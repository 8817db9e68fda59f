"""Adversarial noise and a shift of colour per class."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import (
    Attack,
    Budget,
    Harness,
    ImageSet,
    Learner,
    Poison,
    Radius,
    Random,
    UserError,
    clean_checkpoints,
    option,
)
from unlearnable_bench.attacks._each_image import optimise_each
from unlearnable_bench.harness import Network, input_gradient, zero_noise
from unlearnable_bench.images import centre
from unlearnable_bench.schedule import Training

_SHIFT = 3  # from a label to its target
_STEP = 0.5 / 255
_START, _SPEED = 0.1, 0.01  # half sides of the cubes in which particles and velocities start
_INERTIA, _PULL = 0.5, 0.3
_LEAST_PSNR, _LEAST_SSIM = 20.0, 0.8
_WINDOW = 7  # side of SSIM's window in pixels, as in the quality report
_PART = 500  # images that pass through a network together in the search
_SHIFTED = ("colour is above 0", lambda attack: attack.colour)


@dataclass(frozen=True, kw_only=True)
class DUNE(Attack):
    """DUNE: adversarial noise and one shift of colour per class (ICML 2026).

    The noise lowers the mean cross-entropy of several checkpoints of one clean training to the
    label (y + 3) mod C. A particle swarm searches for each class the RGB offset that lowers it on
    the clean images, with penalties below a PSNR of 20 and an SSIM of 0.8
    ([arXiv 2605.01718](https://arxiv.org/abs/2605.01718)). Noise and offset are added, so the
    budget is L-infinity `rho_u` + `colour`: 33/255 by default, not 8/255.
    """

    version: ClassVar[str] = "2"  # version 1 searched the offsets on images with noise

    needs = "labels"

    surrogate: ClassVar[Literal["clean"]] = "clean"

    rho_u: Radius = option(
        Radius("8/255"), "radius of the noise before the shift of colour, L-infinity"
    )
    colour: Radius = option(
        Radius("25/255"), "largest offset of a class in each channel; 0: no shift of colour"
    )
    checkpoints: int = option(
        5, "number of checkpoints, evenly spaced over the epochs of the clean training", minimum=1
    )
    steps: int = option(30, "number of sign-descent steps of the noise, each of 0.5/255", minimum=1)
    batch_size: int = option(
        500, "number of images attacked together; does not change the noise", minimum=1
    )
    searched: int = option(
        1000,
        "number of images of a class, its first ones, by which its offset is searched",
        minimum=1,
        when=_SHIFTED,
    )
    particles: int = option(10, "number of particles of the swarm", minimum=1, when=_SHIFTED)
    rounds: int = option(10, "number of rounds of the swarm", minimum=1, when=_SHIFTED)
    offset: Literal["best", "last"] = option(
        "best",
        "offset taken from the swarm: the best one, or the last one of the particle that found it "
        "(the authors' code)",
        when=_SHIFTED,
    )

    def check(self, images: ImageSet) -> None:
        """Refuse images that are smaller than SSIM's window, and targets that are the own class.

        Raises:
            UserError: names the sizes, or the classes.
        """
        if _SHIFT % images.classes == 0:
            raise UserError(
                f"dune moves images of class y towards class (y + {_SHIFT}) mod {images.classes}, "
                "which is y itself; use data with another number of classes than 1 and 3"
            )
        if self.colour and images.size < _WINDOW:
            raise UserError(
                f"dune compares windows of {_WINDOW} px in its search of colours, the images have "
                f"{images.size} px; use larger images or --set dune.colour=0"
            )

    def check_surrogate(self, images: ImageSet, learner: Learner, training: Training) -> None:
        """Refuse too short a training.

        Raises:
            UserError: the schedule has fewer epochs than the ensemble networks.
        """
        self._epochs(training.total_epochs(len(images)))

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Attack every image, and search an offset for each class."""
        pixels, labels = harness.tensors(images)
        # In half levels, of which each step is one.
        noise = zero_noise(pixels.shape, torch.int16, harness.device)
        offsets = torch.zeros(images.classes, 3, dtype=harness.dtype, device=harness.device)
        epochs = self._epochs((harness.training or Training()).total_epochs(len(images)))
        models = clean_checkpoints(images, harness, epochs)
        random = harness.random("swarm")
        targets = (labels + _SHIFT) % images.classes
        radius, view = float(self.rho_u), harness.transform.view(images.size)
        part = centre(images.size, view)
        shape = (min(self.batch_size, len(images)), *pixels.shape[1:])
        delta = torch.zeros(shape, dtype=harness.dtype, device=harness.device)
        harness.keep(noise=noise, offsets=offsets)

        def step(index: Tensor) -> None:
            x, y = harness.unit(pixels[index]), targets[index]
            at = (x + delta)[..., part, part]
            gradient = torch.zeros_like(x)
            for model in models:
                gradient[..., part, part] += input_gradient(model, at, y)
            harness.watch(gradient, index)
            moved = (delta - _STEP * gradient.sign()).clamp(-radius, radius)
            delta.copy_((x + moved).clamp(0, 1) - x)

        optimise_each(harness, step, lambda _: delta.zero_(), self.steps, delta, noise, levels=510)

        def fitness(label: int) -> Callable[[Tensor], Tensor] | None:
            index = (labels == label).nonzero()[: self.searched, 0]
            if not len(index):
                return None
            x, y = harness.unit(pixels[index]), targets[index[0]]
            return lambda offset: _fitness(models, x, y, offset, part)

        for label in harness.loop("colours", images.classes) if self.colour else ():
            of_class = fitness(label)
            if of_class is not None:
                found = self._swarm(of_class, random, harness)
                offsets[label] = found.clamp(-float(self.colour), float(self.colour))
        levels = math.floor(255 * (self.rho_u.value + self.colour.value) + Fraction(1, 2))

        def changed(index: Tensor) -> Tensor:
            noisy = harness.unit(pixels[index] + noise[index] / 2)
            return noisy + offsets[labels[index], :, None, None]

        poisoned = _rounded(images, changed, harness)
        notes = {"largest_offset": 255 * float(offsets.abs().max())}
        return Poison(poisoned, Budget("linf", Radius(f"{levels}/255")), notes)

    def image_passes(self, images: int) -> float:
        """Count the passes of the attack, without those of the clean training and of the search."""
        return float(self.checkpoints * self.steps * images)

    def _epochs(self, epochs: int) -> list[int]:
        """Return the epochs of the checkpoints of so many, the last one included.

        Raises:
            UserError: the schedule has fewer epochs.
        """
        if epochs < self.checkpoints:
            raise UserError(
                f"dune.checkpoints={self.checkpoints}: the clean training has {epochs} epochs; use "
                f"--set dune.checkpoints={epochs} or less, or a longer schedule"
            )
        return [epochs * (k + 1) // self.checkpoints for k in range(self.checkpoints)]

    def _swarm(
        self, fitness: Callable[[Tensor], Tensor], random: Random, harness: Harness
    ) -> Tensor:
        """Return the offset, float [3], that a particle swarm finds to have the lowest fitness."""
        cube = (self.particles, 3)
        places = random.uniform(*cube, low=-_START, high=_START).to(harness.dtype)
        speeds = random.uniform(*cube, low=-_SPEED, high=_SPEED).to(harness.dtype)
        own, own_values = places.clone(), torch.full_like(places[:, 0], torch.inf)
        best = places[0]
        for _ in range(self.rounds):
            values = torch.stack([fitness(place) for place in places])
            better = values < own_values
            own = torch.where(better[:, None], places, own)
            own_values = torch.where(better, values, own_values)
            leader = own_values.argmin()
            best = (own if self.offset == "best" else places)[leader]
            speeds = _INERTIA * speeds + _PULL * (own - places) + _PULL * (best - places)
            places = places + speeds
            if self.offset == "last":
                best = places[leader]
        return best


def _rounded(
    images: ImageSet, changed: Callable[[Tensor], Tensor], harness: Harness
) -> NDArray[np.uint8]:
    """Return all changed images in 8 bits, uint8 [N, H, W, 3]."""
    poisoned = np.empty_like(images.images)
    for index in torch.arange(len(images), device=harness.device).split(4096):
        levels = (255 * changed(index)).round().clamp(0, 255).to(torch.uint8)
        poisoned[index.cpu().numpy()] = levels.permute(0, 2, 3, 1).cpu().numpy()
    return poisoned


def _fitness(
    models: Sequence[Network], x: Tensor, y: Tensor, offset: Tensor, part: slice
) -> Tensor:
    """Return the mean loss towards a label of shifted images, and penalties for visible shifts.

    Args:
        models: networks of the clean training.
        x: images of a class, float [n, 3, H, W] in [0, 1].
        y: their target, an int64 scalar.
        offset: shift of each channel, float [3].
        part: rows and columns that a network sees.
    """
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for images in x.split(_PART):
        shifted = (images + offset[:, None, None]).clamp(0, 1)
        with torch.no_grad():
            for model in models:
                logits = model.uncompiled(shifted[..., part, part])
                losses = functional.cross_entropy(logits, y.expand(len(images)), reduction="sum")
                total += losses / len(models)
        psnr = -10 * (shifted - images).square().mean((1, 2, 3)).log10()
        total += (_LEAST_PSNR - psnr).clamp(min=0).sum()
        total += (_LEAST_SSIM - _ssim(images, shifted)).clamp(min=0).sum()
    return total / len(x)


def _ssim(one: Tensor, other: Tensor) -> Tensor:
    """Return the structural similarity of each pair of images, as scikit-image's default.

    Args:
        one: images, float [B, 3, H, W] in [0, 1].
        other: images of the same shape.
    """

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, _WINDOW, stride=1)

    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    first, second = mean(one), mean(other)
    spread = sample * (mean(one**2) - first**2 + mean(other**2) - second**2)
    shared = sample * (mean(one * other) - first * second)
    similar = (2 * first * second + 1e-4) * (2 * shared + 9e-4)
    return (similar / ((first**2 + second**2 + 1e-4) * (spread + 9e-4))).mean((1, 2, 3))
