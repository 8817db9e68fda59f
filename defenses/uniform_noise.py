"""Uniform noise on the stored training images."""

from dataclasses import dataclass

import numpy as np
import torch

from unlearnable_bench import Defense, Harness, ImageSet, Radius, option

_CHUNK = 1 << 24  # values drawn together: 128 MB of random words


@dataclass(frozen=True, kw_only=True)
class UniformNoise(Defense):
    """Add uniform noise to the training images once, before training.

    v' = clip(round(v + 255 u), 0, 255) with u ~ U(-radius, radius) for each value. It measures
    the stability of a poison: its effect after a random perturbation of radius rho_a of the
    stored images. This is our reading of Definition 5 of the SEM paper
    ([arXiv 2311.13091](https://arxiv.org/abs/2311.13091)), whose formula was not available to
    us.
    """

    needs = "nothing"

    radius: Radius = option(Radius("4/255"), "radius of the noise, L-infinity")

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Add the noise and round to 8 bits."""
        random, bound = harness.random("uniform noise"), float(self.radius)
        changed = np.empty_like(images.images)
        size = max(1, _CHUNK // images.images[0].size)
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            pixels = torch.tensor(images.images[part], device=harness.device)
            noise = 255 * random.uniform(*pixels.shape, low=-bound, high=bound)
            levels = (pixels + noise).round().clamp(0, 255)
            changed[part] = levels.to(torch.uint8).cpu().numpy()
        return images.replaced(changed)
