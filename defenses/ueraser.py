"""UEraser: strong augmentation, or the strongest of several by the loss."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Defense, Random, option
from unlearnable_bench.defenses.trivial_augment import OPERATIONS, apply
from unlearnable_bench.harness import frozen

# The settings of the authors' code for CIFAR-10.
_ROUGHNESS = (0.3, 0.7)
_INTENSITY = (0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class UEraserLite(Defense):
    """UEraser-Lite: plasma brightness and contrast, channel shuffle and TrivialAugment.

    [Qin et al. 2023](https://arxiv.org/abs/2303.15127), with the policy of the authors' code:
    plasma brightness, plasma contrast and channel shuffle, each applied to a share of the
    images, then TrivialAugment on all of them. Three details differ from kornia, which that
    code uses: the plasma is a diamond-square fractal of mean 1/2, the operation is drawn for
    each image rather than for the batch, and geometric operations go in both directions, while
    those of kornia 0.6.12 go in one direction and leave half of the images unchanged.
    """

    needs: ClassVar[Literal["nothing", "labels"]] = "nothing"
    version: ClassVar[str] = "2"  # version 1 had torchvision's TrivialAugment

    probability: float = option(
        0.5,
        "probability of plasma brightness, of plasma contrast and of channel shuffle, for each "
        "image",
        minimum=0,
        maximum=1,
    )

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Augment each image once."""
        return self._strongly(x, random), y

    def _strongly(self, x: Tensor, random: Random) -> Tensor:
        def chosen() -> Tensor:
            return (random.uniform(len(x)) < self.probability)[:, None, None, None]

        intensity = random.uniform(len(x), 1, 1, 1, low=_INTENSITY[0], high=_INTENSITY[1])
        lit = x + intensity * (2 * plasma(x, random) - 1)
        x = torch.where(chosen(), lit.clamp(0, 1), x)
        contrasted = 4 * plasma(x, random) * (x - 0.5) + 0.5
        x = torch.where(chosen(), contrasted.clamp(0, 1), x)
        order = random.uniform(*x.shape[:2]).argsort(1)[:, :, None, None]
        x = torch.where(chosen(), x.gather(1, order.expand_as(x)), x)
        operation = random.integers(len(OPERATIONS), len(x))
        sign = 2.0 * random.integers(2, len(x)) - 1
        return apply(x, operation, random.uniform(len(x)), sign)


@dataclass(frozen=True, kw_only=True)
class UEraserMax(UEraserLite):
    """UEraser-Max: train on the UEraser-Lite augmentation with the largest loss.

    [Qin et al. 2023](https://arxiv.org/abs/2303.15127), applied in every training step. The
    losses are those of the current model in eval mode, and only the selected augmentation is
    trained on; the authors' code computes all losses in one pass in train mode.
    """

    needs = "labels"

    candidates: int = option(5, "number of augmentations drawn for each image", minimum=1)

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: Random
    ) -> tuple[Tensor, Tensor]:
        """Return the candidate with the largest loss for each image."""
        with frozen(model), torch.no_grad():
            hardest = self._strongly(x, random)
            largest = functional.cross_entropy(model(hardest), y, reduction="none")
            for _ in range(self.candidates - 1):
                candidate = self._strongly(x, random)
                loss = functional.cross_entropy(model(candidate), y, reduction="none")
                larger = loss > largest
                hardest = torch.where(larger[:, None, None, None], candidate, hardest)
                largest = torch.where(larger, loss, largest)
        return hardest, y


def plasma(x: Tensor, random: Random) -> Tensor:
    """Draw a fractal field in [0, 1] for each channel of each image, float [B, 3, H, W].

    Diamond-square (Fournier et al. 1982; Nicolaou et al. 2022 for images): starting from four
    uniform corners, the grid is refined until it covers the image. At level k a new point is
    (1 - r^k) times the mean of its neighbours plus r^k times a uniform number, with one
    roughness r per image.

    Args:
        x: the batch, float [B, 3, H, W], which gives shape and type.
        random: stream of the draws.
    """
    batch, channels, height, width = x.shape
    roughness = random.uniform(batch, 1, 1, 1, low=_ROUGHNESS[0], high=_ROUGHNESS[1])
    field = random.uniform(batch, channels, 2, 2)
    scale = roughness
    while field.shape[-1] < max(height, width):
        side = 2 * field.shape[-1] - 1
        noise = scale * random.uniform(batch, channels, side, side)
        field = refine(field, 1 - scale, noise)
        scale = scale * roughness
    return field[:, :, :height, :width].to(x.dtype)


def refine(field: Tensor, weight: Tensor, noise: Tensor) -> Tensor:
    """Return the grid with a new point between any two: weight * mean + noise.

    Args:
        field: the grid, float [B, C, n, n].
        weight: weight of the mean of a new point's neighbours, float [B, 1, 1, 1].
        noise: noise of the new points, float [B, C, 2n - 1, 2n - 1]; not used at old points.

    Returns:
        The refined grid, float [B, C, 2n - 1, 2n - 1].
    """
    columns = field[..., :-1] + field[..., 1:]
    centres = weight * (columns[..., :-1, :] + columns[..., 1:, :]) / 4 + noise[..., 1::2, 1::2]
    refined = noise.clone()
    refined[..., ::2, ::2] = field
    refined[..., 1::2, 1::2] = centres
    refined[..., ::2, 1::2] += weight * _edges(field, centres)
    refined[..., 1::2, ::2] += weight * _edges(field.mT, centres.mT).mT
    return refined


def _edges(field: Tensor, centres: Tensor) -> Tensor:
    """Return the mean of the four neighbours (three at borders) of points between columns."""
    total = field[..., :-1] + field[..., 1:]
    total = total + functional.pad(centres, (0, 0, 1, 0)) + functional.pad(centres, (0, 0, 0, 1))
    neighbours = torch.full_like(total, 4)
    neighbours[..., :: field.shape[-1] - 1, :].fill_(3)
    return total / neighbours
