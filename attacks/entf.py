"""Entangled features."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unlearnable_bench import (
    Attack,
    Harness,
    ImageSet,
    Learner,
    Poison,
    Radius,
    ResizedCrop,
    Transform,
    UserError,
    clean_network,
    option,
)
from unlearnable_bench.attacks._centres import centres_of, refuse_other_views
from unlearnable_bench.attacks._each_image import optimise_each
from unlearnable_bench.attacks._shifts import shifted
from unlearnable_bench.harness import (
    input_gradient,
    level_type,
    refuse_featureless,
    zero_noise,
)
from unlearnable_bench.schedule import Training


@dataclass(frozen=True, kw_only=True)
class EntF(Attack):
    """Entangled features (EntF, ICLR 2023), against adversarial training.

    Noise that moves the pooled features of a network, trained adversarially on the clean images,
    away from the mean feature of the image's class (`push`) or to the nearest mean feature of
    another class (`pull`). Each step draws a shift and a mirroring
    ([code](https://github.com/WenRuiUSTC/EntF)).
    """

    needs = "labels"

    surrogate: ClassVar[Literal["clean"]] = "clean"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    variant: Literal["push", "pull"] = option(
        "push",
        "direction of the features: push (away from the own class) or pull (to the nearest other "
        "class)",
    )
    rho_a: Radius = option(
        Radius("4/255"),
        "radius of the adversarial training of the network, L-infinity; 0: standard training",
    )
    steps: int = option(300, "number of steps", minimum=1)
    alpha_u: Radius | None = option(None, "step size; none: rho_u / 20")
    batch_size: int = option(
        500, "number of images attacked together; changes the random numbers only", minimum=1
    )

    def surrogate_rho_a(self) -> Radius:
        """Return `rho_a`."""
        return self.rho_a

    def check(self, images: ImageSet) -> None:
        """Refuse `pull` without another class.

        Raises:
            UserError: all images are of one class.
        """
        if self.variant == "pull" and len({*images.labels.tolist()}) == 1:
            raise UserError(
                "entf.variant=pull needs images of two classes or more, and the training set has "
                "one; use --set entf.variant=push"
            )

    def check_run(self, images: ImageSet, transform: Transform | ResizedCrop, seed: int) -> None:
        """Refuse views of another size than the images."""
        refuse_other_views("entf", images, transform)

    def check_surrogate(self, images: ImageSet, learner: Learner, training: Training) -> None:
        """Refuse an architecture without pooled features."""
        refuse_featureless(learner, images.classes, images.size)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Attack the features of every image of the training set."""
        pixels, labels = harness.tensors(images)
        noise = zero_noise(pixels.shape, level_type(self.rho_u), harness.device)
        features = harness.features(clean_network(images, harness, self.rho_a))
        centres = centres_of(images, features, harness)
        # Classes without images have no centre; 0 * NaN would reach the gradient.
        absent, centres = centres[:, 0].isnan(), centres.nan_to_num()
        sign = 1 if self.variant == "push" else -1
        radius, step_size = float(self.rho_u), self.rho_u.step_size(40, self.alpha_u)
        random = harness.random("generation")
        size = min(self.batch_size, len(images))
        shape = (size, *pixels.shape[1:])
        x = torch.zeros(shape, dtype=harness.dtype, device=harness.device)
        delta, y = torch.zeros_like(x), torch.zeros(size, dtype=torch.int64, device=harness.device)
        harness.keep(noise=noise)

        def distances(z: Tensor, own: Tensor) -> Tensor:
            if self.variant == "push":
                return (z - centres[own]).square().sum()
            squares = (z[:, None] - centres).square().sum(2)
            left_out = (torch.arange(len(centres), device=z.device) == own[:, None]) | absent
            return squares.masked_fill(left_out, torch.inf).amin(1).sum()

        def step(index: Tensor) -> None:
            at = (x + delta).requires_grad_()
            views = shifted(at, random, mirrors=harness.transform.flip)
            outer = input_gradient(features, views.detach(), y, distances)
            gradient = torch.autograd.grad(views, at, outer)[0]
            harness.watch(gradient, index)
            moved = (delta + sign * step_size * gradient.sign()).clamp(-radius, radius)
            delta.copy_((x + moved).clamp(0, 1) - x)

        def begin(index: Tensor) -> None:
            x.copy_(harness.unit(pixels[index]))
            y.copy_(labels[index])
            delta.copy_((radius * random.normal(*shape)).clamp(-radius, radius))

        optimise_each(harness, step, begin, self.steps, delta, noise)
        return Poison.from_noise(images, noise, self.rho_u)

    def image_passes(self, images: int) -> float:
        """Count the passes of the attack, without those of the adversarial training."""
        return float(self.steps * images)
