"""Neural tangent generalization attack."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

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
from unlearnable_bench.attacks.ntk import (
    NOBODY,
    ROWS,
    Kernel,
    Slopes,
    cnn_ntk,
    fnn_ntk,
    held_out_gradient,
    part_slopes,
)


@dataclass(frozen=True, kw_only=True)
class NTGA(Attack):
    """Neural tangent generalization attacks (Yuan and Wu, ICML 2021), block by block.

    max over delta_u of CE(f_t(x_v), y_v) on held-out images x_v, where f_t is the infinitely
    wide network after training on a block's x + delta_u for a time t. No network is trained:
    kernels and gradients are in closed form, and float64 in any precision.

    `steps=1` is the official code's attack: its ten iterations all start from the clean block
    and step by the whole rho_u, so each gives the same noise.

    The held-out images are training images. The official code leaves them clean, and what no
    whole block is left for; here every image is poisoned. The blocks are held against the
    first images of a random order, these in turn against the last ones. The last block is
    filled up with images of the one before, whose noise stays as it was.
    """

    surrogate: ClassVar[Literal["none"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    kernel: Literal["cnn", "fnn"] = option("cnn", "of the paper's CNN or fully connected network")
    t: float = option(
        64.0, "training time; the authors' best for CIFAR-10: cnn 8, fnn 4096", minimum=0
    )
    block: int = option(512, "images poisoned together", minimum=1)
    validation: int | None = option(
        None, "held-out images for each block; none: a fifth of the set", minimum=1
    )
    steps: int = option(1, "1: one of rho_u; more: PGD, each 1.1 rho_u / steps", minimum=1)
    stride: int = option(
        2,
        "stride of both convolutions; the paper's for ImageNet is 3",
        minimum=1,
        when=("kernel is cnn", lambda attack: attack.kernel == "cnn"),
    )

    def check(self, images: ImageSet) -> None:
        """Refuse a set too small for a block and two held-out sets beside it."""
        validation = self._validation(images)
        needed = self.block + 2 * validation
        if needed > len(images):
            raise UserError(
                f"ntga.block={self.block} and two held-out sets of {validation} images are "
                f"{needed}, the set has {len(images)}; lower ntga.block or ntga.validation"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Ascend the held-out loss of each block."""
        pixels, labels = harness.tensors(images)
        targets = functional.one_hot(labels, images.classes).double()
        count, validation = len(images), self._validation(images)
        slopes = harness.capture(partial(part_slopes, self._ntk))
        order = harness.random("generation").permutation(count)
        noise = torch.zeros_like(pixels, dtype=torch.int16)  # units of 1/255
        harness.keep(noise=noise)

        for k in harness.loop("blocks", -(-count // self.block)):
            first = k * self.block
            start = min(first, count - self.block)
            block = order[start : start + self.block]
            held_out = order[:validation] if start >= validation else order[-validation:]
            parts = _parts(pixels[held_out], labels[held_out])
            found = self._ascend(pixels[block], targets[block], parts, slopes)
            fresh = first - start
            noise[block[fresh:]] = found[fresh:].round().short()
        return Poison.from_noise(images, noise, self.rho_u)

    @property
    def _ntk(self) -> Kernel:
        return fnn_ntk if self.kernel == "fnn" else partial(cnn_ntk, stride=self.stride)

    def _validation(self, images: ImageSet) -> int:
        return self.validation or max(len(images) // 5, 1)

    def _ascend(
        self,
        pixels: Tensor,
        targets: Tensor,
        held_out: list[tuple[Tensor, Tensor]],
        slopes: Slopes,
    ) -> Tensor:
        """Return the noise of a block in 8-bit levels.

        Args:
            pixels: uint8 [N, 3, H, W], the block.
            targets: float64 [N, C], its labels, one-hot.
            held_out: parts of images uint8 [V, 3, H, W] and labels int64 [V].
            slopes: `part_slopes` of the kernel.
        """
        radius = float(self.rho_u)
        x = moved = pixels.double() / 255
        for _ in range(self.steps):
            parts = ((images.double() / 255, labels) for images, labels in held_out)
            slope = held_out_gradient(self._ntk, moved, targets, parts, self.t, slopes)
            # From x, 1.1 rho_u is a step to the face of the ball, or none where the slope is 0.
            moved = moved + 1.1 * radius / self.steps * slope.sign()
            moved = moved.clamp(x - radius, x + radius).clamp(0, 1)
        return 255 * (moved - x)


def _parts(pixels: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Split held-out images into parts of one size, the last filled up with images of no label."""
    rows = min(ROWS, len(labels))
    short = -len(labels) % rows
    pixels = torch.cat([pixels, pixels[:short]])
    labels = torch.cat([labels, labels.new_full((short,), NOBODY)])
    return list(zip(pixels.split(rows), labels.split(rows), strict=True))
