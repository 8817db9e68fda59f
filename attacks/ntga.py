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
    PartGradients,
    cnn_ntk,
    fnn_ntk,
    held_out_gradient,
    part_gradients,
)


@dataclass(frozen=True, kw_only=True)
class NTGA(Attack):
    """Neural tangent generalization attacks (Yuan and Wu, ICML 2021), block by block.

    max over delta_u of CE(f_t(x_v), y_v) on held-out images x_v, where f_t is the infinitely
    wide network after gradient flow on a block's x + delta_u for a time t
    ([PMLR 139](https://proceedings.mlr.press/v139/yuan21b.html)). No network is trained:
    kernels and gradients are computed in closed form, in float64 for any `--precision`.

    `steps=1` is the attack of the official code, whose ten iterations all start from the clean
    block and step by the whole rho_u, so that each gives the same noise.

    The held-out images are training images. The official code leaves them clean, as well as
    the images after the last whole block; here every image is poisoned. Blocks are attacked
    against the first images of a random order, and the blocks of those first images against
    the last ones. The last block is padded with images of the previous block, whose noise does
    not change.
    """

    surrogate: ClassVar[Literal["none"]] = "none"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    kernel: Literal["cnn", "fnn"] = option(
        "cnn", "network of the tangent kernel: the paper's CNN or its fully connected network"
    )
    t: float = option(
        64.0,
        "training time of the gradient flow, at learning rate 1; the authors' best for CIFAR-10: "
        "cnn 8, fnn 4096",
        minimum=0,
    )
    block: int = option(512, "number of images poisoned together", minimum=1)
    validation: int | None = option(
        None,
        "number of held-out images for each block; none: a fifth of the training set",
        minimum=1,
    )
    steps: int = option(
        1,
        "number of ascent steps: 1 is a single step to the ball's surface, more are PGD of step "
        "size 1.1 rho_u / steps",
        minimum=1,
    )
    stride: int = option(
        2,
        "stride of both convolutions in pixels; the paper's for ImageNet is 3",
        minimum=1,
        when=("kernel is cnn", lambda attack: attack.kernel == "cnn"),
    )

    def check(self, images: ImageSet) -> None:
        """Refuse a training set too small for a block and two held-out sets, and t = 0.

        Raises:
            UserError: names the number of images needed; or the network is not trained, so that
                its predictions do not depend on the images.
        """
        if not self.t:
            raise UserError(
                "ntga.t=0: without training, the held-out loss does not depend on the images; give "
                "a time above 0, such as 64"
            )
        validation = self._validation(images)
        needed = self.block + 2 * validation
        if needed > len(images):
            raise UserError(
                f"ntga.block={self.block} and two held-out sets of {validation} images need "
                f"{needed} images, the training set has {len(images)}; lower ntga.block or "
                "ntga.validation"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Ascend the held-out loss of each block."""
        pixels, labels = harness.tensors(images)
        targets = functional.one_hot(labels, images.classes).double()
        count, validation = len(images), self._validation(images)
        gradients = harness.capture(partial(part_gradients, self._ntk))
        order = harness.random("generation").permutation(count)
        noise = torch.zeros_like(pixels, dtype=torch.int16)  # units of 1/255
        harness.keep(noise=noise)

        for k in harness.loop("blocks", -(-count // self.block)):
            first = k * self.block
            start = min(first, count - self.block)
            block = order[start : start + self.block]
            held_out = order[:validation] if start >= validation else order[-validation:]
            parts = _parts(pixels[held_out], labels[held_out])
            delta = self._ascend(pixels[block], targets[block], parts, gradients)
            padding = first - start
            noise[block[padding:]] = delta[padding:].round().short()
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
        gradients: PartGradients,
    ) -> Tensor:
        """Return the noise of a block in 8-bit levels, float64 [N, 3, H, W].

        Args:
            pixels: the block, uint8 [N, 3, H, W].
            targets: its one-hot labels, float64 [N, C].
            held_out: parts of images uint8 [V, 3, H, W] and labels int64 [V].
            gradients: `part_gradients` of the kernel, captured.
        """
        radius = float(self.rho_u)
        x = moved = pixels.double() / 255
        for _ in range(self.steps):
            parts = ((images.double() / 255, labels) for images, labels in held_out)
            gradient = held_out_gradient(self._ntk, moved, targets, parts, self.t, gradients)
            # A single step of 1.1 rho_u ends on the ball's surface, or at x if the gradient is 0.
            moved = moved + 1.1 * radius / self.steps * gradient.sign()
            moved = moved.clamp(x - radius, x + radius).clamp(0, 1)
        return 255 * (moved - x)


def _parts(pixels: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Split held-out images into parts of equal size; the padding of the last has no label."""
    rows = min(ROWS, len(labels))
    short = -len(labels) % rows
    pixels = torch.cat([pixels, pixels[:short]])
    labels = torch.cat([labels, labels.new_full((short,), NOBODY)])
    return list(zip(pixels.split(rows), labels.split(rows), strict=True))
