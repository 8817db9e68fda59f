"""Self-ensemble protection."""

from collections.abc import Sequence
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
    clean_checkpoints,
    option,
)
from unlearnable_bench.attacks._centres import centres_of, refuse_other_views
from unlearnable_bench.attacks._each_image import optimise_each
from unlearnable_bench.harness import (
    Network,
    input_gradient,
    level_type,
    refuse_featureless,
    zero_noise,
)
from unlearnable_bench.schedule import Training

_REDUCED = ("variant is fa-vr", lambda attack: attack.variant == "fa-vr")


@dataclass(frozen=True, kw_only=True)
class SEP(Attack):
    """Self-ensemble protection (SEP, Chen et al., ICLR 2023).

    Targeted sign descent against an ensemble: networks which one training on the clean images
    passed through, at evenly spaced epochs ([arXiv 2211.12005](https://arxiv.org/abs/2211.12005)).
    `plain` (SEP) descends the mean cross-entropy towards another class, `fa` (SEP-FA) the mean
    squared distance of the pooled features from that class's mean feature, `fa-vr` (SEP-FA-VR) the
    same with the gradient of an inner loop, which reduces its variance over the ensemble.
    """

    version: ClassVar[str] = "2"  # version 1 targeted class y + 5 of any number of classes

    needs = "labels"

    surrogate: ClassVar[Literal["clean"]] = "clean"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    variant: Literal["plain", "fa", "fa-vr"] = option(
        "fa-vr",
        "loss and gradient: plain (SEP: cross-entropy), fa (SEP-FA: pooled features) or fa-vr "
        "(SEP-FA-VR: features, variance reduction)",
    )
    checkpoints: int | None = option(
        None, "number of networks in the ensemble; none: 30, fa-vr 15", minimum=1
    )
    steps: int = option(30, "number of descent steps", minimum=1)
    alpha_u: Radius = option(Radius("1/255"), "step size of the descent")
    draws: int = option(
        16, "number of networks drawn in the inner loop of each step", minimum=1, when=_REDUCED
    )
    inner_target: Literal["own", "last"] = option(
        "own",
        "features that the inner loop approaches: own (of the network drawn) or last (always of "
        "the last network: the authors' code)",
        when=_REDUCED,
    )
    shift: int | None = option(
        None,
        "number of classes from an image's class to its target; none: half of the classes",
        minimum=1,
    )
    batch_size: int = option(
        500,
        "number of images attacked together; changes the draws of fa-vr, otherwise no noise",
        minimum=1,
    )

    def check(self, images: ImageSet) -> None:
        """Refuse a target that is the class itself or has no images, and a step size of 0.

        Raises:
            UserError: names the option or the class.
        """
        if not self.alpha_u:
            raise UserError(
                f"sep.alpha_u={self.alpha_u}: the noise starts at 0 and would stay there; give a "
                "step size above 0, such as 1/255"
            )
        shift = self._shift(images.classes)
        if shift % images.classes == 0:
            raise UserError(
                f"sep.shift={shift} targets an image's own class, of {images.classes}; give a "
                "number that is no multiple of it, for two classes or more"
            )
        present = {*images.labels.tolist()}
        for label in sorted(present):
            target = (label + shift) % images.classes
            if self.variant != "plain" and target not in present:
                raise UserError(
                    f"sep.variant={self.variant} needs images of every target, and the training "
                    f"set has no image of class {target}; use --set sep.variant=plain"
                )

    def check_run(self, images: ImageSet, transform: Transform | ResizedCrop, seed: int) -> None:
        """Refuse views of another size than the images."""
        refuse_other_views("sep", images, transform)

    def check_surrogate(self, images: ImageSet, learner: Learner, training: Training) -> None:
        """Refuse an architecture without features, and too short a training.

        Raises:
            UserError: the schedule has fewer epochs than the ensemble networks.
        """
        if self.variant != "plain":
            refuse_featureless(learner, images.classes, images.size)
        self._epochs(training.total_epochs(len(images)))

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Attack every image of the training set against the ensemble."""
        pixels, labels = harness.tensors(images)
        noise = zero_noise(pixels.shape, level_type(self.rho_u), harness.device)
        epochs = self._epochs((harness.training or Training()).total_epochs(len(images)))
        networks = clean_checkpoints(images, harness, epochs)
        ensemble, count = _Ensemble(networks), len(networks)
        model = networks[-1]
        if self.variant != "plain":
            model = harness.features(model)
            means = [centres_of(images, harness.features(one), harness) for one in networks]
            centres = torch.stack(means)
        numbers = torch.arange(count, device=harness.device)
        targets = (labels + self._shift(images.classes)) % images.classes
        radius, step_size = float(self.rho_u), float(self.alpha_u)
        random = harness.random("generation")
        size = min(self.batch_size, len(images))
        x = torch.zeros((size, *pixels.shape[1:]), dtype=harness.dtype, device=harness.device)
        delta, y = torch.zeros_like(x), torch.zeros(size, dtype=torch.int64, device=harness.device)
        harness.keep(noise=noise)

        def gradient(number: Tensor, moved: Tensor, aim: Tensor) -> Tensor:
            ensemble.load(number)
            if self.variant == "plain":
                return input_gradient(model, x + moved, y)
            return input_gradient(model, x + moved, centres.index_select(0, aim)[0][y], _squares)

        def descended(moved: Tensor, direction: Tensor) -> Tensor:
            moved = (moved - step_size * direction.sign()).clamp(-radius, radius)
            return (x + moved).clamp(0, 1) - x

        def step(index: Tensor) -> None:
            every = torch.stack([gradient(n, delta, n) for n in numbers.split(1)])
            direction = mean = every.mean(0)
            if self.variant == "fa-vr":
                inner, direction = delta, torch.zeros_like(delta)
                for _ in range(self.draws):
                    drawn = random.integers(count, 1)
                    aim = drawn if self.inner_target == "own" else numbers[-1:]
                    excess = every.index_select(0, drawn)[0] - mean
                    direction = direction + gradient(drawn, inner, aim) - excess
                    inner = descended(inner, direction)
            harness.watch(direction, index)
            delta.copy_(descended(delta, direction))

        def begin(index: Tensor) -> None:
            x.copy_(harness.unit(pixels[index]))
            y.copy_(targets[index])
            delta.zero_()

        optimise_each(harness, step, begin, self.steps, delta, noise)
        return Poison.from_noise(images, noise, self.rho_u)

    def image_passes(self, images: int) -> float:
        """Count the passes of the attack, without those of the clean training."""
        drawn = self.draws if self.variant == "fa-vr" else 0
        return float(self.steps * (self._checkpoints + drawn) * images)

    @property
    def _checkpoints(self) -> int:
        return self.checkpoints or (15 if self.variant == "fa-vr" else 30)

    def _shift(self, classes: int) -> int:
        return max(1, classes // 2) if self.shift is None else self.shift

    def _epochs(self, total: int) -> list[int]:
        """Return the evenly spaced epochs of the ensemble, of which the last is the last one."""
        count = self._checkpoints
        if count > total:
            raise UserError(
                f"sep takes {count} networks of one training, one an epoch, and the schedule has "
                f"{total} epochs; use --set sep.checkpoints={total} or fewer, or more "
                "surrogate.epochs"
            )
        return [total * number // count for number in range(1, count + 1)]


class _Ensemble:
    """The weights of several networks, one of which is in the last network at a time."""

    def __init__(self, networks: Sequence[Network]) -> None:
        states = [network.state_dict() for network in networks]
        own = networks[-1].state_dict(keep_vars=True)
        self._weights = [
            (tensor, torch.stack([state[name] for state in states])) for name, tensor in own.items()
        ]

    @torch.no_grad()
    def load(self, number: Tensor) -> None:
        """Load the weights of a network.

        Args:
            number: its number, int64 [1], on the device: it may be drawn in a captured step.
        """
        for tensor, every in self._weights:
            tensor.copy_(every.index_select(0, number)[0])


def _squares(z: Tensor, target: Tensor) -> Tensor:
    return (z - target).square().sum()
