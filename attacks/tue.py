"""Transferable unlearnable examples."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Attack, Budget, Harness, ImageSet, Poison, Radius, option

_TINY = 255e-5  # 1e-5 in units of the pixel range, in levels


@dataclass(frozen=True, kw_only=True)
class TUE(Attack):
    """Transferable unlearnable examples in their network-free form (Ren et al., ICLR 2023).

    Sign descent on the class-wise separability discriminant of the noise of each batch: the mean
    over pairs of classes of (s_i + s_j) / |c_i - c_j|, with the mean c of a class and the mean
    distance s from it, a constant ([arXiv 2210.10114](https://arxiv.org/abs/2210.10114)). The
    authors' SimCLR command gives the contrastive loss weight 0, so that the noise does not depend
    on its network; this form leaves the network out.
    """

    version: ClassVar[str] = "2"  # version 1 separated the noise after the clamp to [0, 1]

    needs = "labels"

    surrogate: ClassVar[Literal["none"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    sweeps: int = option(6, "number of passes over the training set", minimum=1)
    steps: int = option(
        20, "number of sign-descent steps of a batch in a pass, each of rho_u / 10", minimum=1
    )
    batch_size: int = option(512, "number of images whose classes are separated", minimum=2)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Separate the classes of shuffled batches, from a uniform random start."""
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
                for _step in range(self.steps):
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

    def image_passes(self, images: int) -> float:
        """Return 0, since the method uses no network."""
        return 0


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
