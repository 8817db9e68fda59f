"""Orthogonal projection."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Defense, Harness, ImageSet, option
from unlearnable_bench.harness import ShuffledBatches

_STREAM = "orthogonal projection"


@dataclass(frozen=True, kw_only=True)
class OrthogonalProjection(Defense):
    """Project the most predictive linear directions out of the training images.

    [Sandoval-Segura et al., NeurIPS 2023](https://arxiv.org/abs/2305.19254): a logistic
    regression without bias is fitted to the poisoned pixels in [0, 1], and its weights, one
    direction per class, are projected out of every image: x' = x - Q Q^T x, where the columns
    of Q are an orthonormal basis of the weights. Schedule and initialisation are those of the
    authors' code for CIFAR-10, with two differences: the length is counted in updates, because
    20 epochs of a small set are too few, and batches are shuffled, because a set may be sorted
    by label. The result is rounded to 8 bits and clipped to
    0..255; the authors' code has real numbers up to its color jitter, which clips as well. The
    augmentation of that code (rotation, shear, color jitter, CutMix) is not part of this
    defense.
    """

    needs = "labels"

    steps: int = option(
        980,
        "number of updates of the regression; the default is 20 epochs of CIFAR-10, as in the "
        "authors' code",
        minimum=1,
    )
    batch_size: int = option(1024, "number of images in a batch of the regression", minimum=1)
    lr: float = option(
        0.1,
        "learning rate of the regression, multiplied by 0.1 at 50 % and 75 % of the steps",
        minimum=0,
    )

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Fit the regression on the harness's device, then project the images."""
        pixels, labels = harness.tensors(images)
        weights = self._fit(pixels, labels, images.classes, harness)
        projected = images.images.copy()
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            projected[part] = project(pixels[part], weights).permute(0, 2, 3, 1).cpu().numpy()
        return dataclasses.replace(images, images=projected)

    def _fit(self, pixels: Tensor, labels: Tensor, classes: int, harness: Harness) -> Tensor:
        """Return the weights [C, 3 H W] of the regression, by SGD from torch's initialisation."""
        targets = functional.one_hot(labels, classes).to(harness.dtype)
        pixels = pixels.flatten(1)
        values = pixels.shape[1]
        bound = values**-0.5
        start = harness.random(_STREAM).uniform(classes, values, low=-bound, high=bound)
        weights = start.to(harness.dtype)
        batches = ShuffledBatches(
            len(pixels), self.batch_size, harness.seed, _STREAM, harness.device
        )
        for k in range(self.steps):
            index = batches[k]
            x = harness.unit(pixels[index])
            error = (x @ weights.T).softmax(1) - targets[index]
            lr = self.lr * 0.1 ** ((k >= 0.5 * self.steps) + (k >= 0.75 * self.steps))
            weights -= lr * error.T @ x / len(x)
        return weights


def project(pixels: Tensor, weights: Tensor) -> Tensor:
    """Return x - Q Q^T x, where the columns of Q are an orthonormal basis of the weights.

    Args:
        pixels: x, uint8 [N, 3, H, W].
        weights: the directions, float [C, 3 H W].

    Returns:
        The projected images, uint8 [N, 3, H, W], rounded and clipped to 0..255.
    """
    basis: Tensor = torch.linalg.qr(weights.double().T).Q
    x = pixels.flatten(1).double()
    return (x - x @ basis @ basis.T).round().clamp(0, 255).to(torch.uint8).view_as(pixels)
