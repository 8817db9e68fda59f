"""Error-minimizing noise, as published and as implemented in the REM code base."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import (
    Attack,
    Harness,
    ImageSet,
    Poison,
    Radius,
    ResizedCrop,
    Transform,
    UserError,
    option,
)
from unlearnable_bench.attacks._class_noise import adding_class_noise
from unlearnable_bench.attacks.alternation import alternate
from unlearnable_bench.harness import (
    ShuffledBatches,
    StoredNoise,
    input_gradient,
    level_type,
    random_transform,
    refuse_divergence,
    sgd,
    sweep,
    zero_noise,
)
from unlearnable_bench.images import Labels, Pixels

_IN_ROUNDS = (
    "variant is official or classwise",
    lambda attack: attack.variant in ("official", "classwise"),
)
_SHARE = 0.2  # share of the images on which class-wise noise is optimised


@dataclass(frozen=True, kw_only=True)
class EM(Attack):
    """Error-minimizing noise, sample-wise (Huang et al., ICLR 2021).

    min over theta and delta_u of E CE(f_theta(x + delta_u), y), with delta_u in the
    L-infinity ball of radius rho_u ([arXiv 2101.04898](https://arxiv.org/abs/2101.04898)).

    `variant=misaligned` is EM as implemented in the REM and SEM code base: the noise is
    optimised on flipped and cropped views, but stored for the unaugmented images.
    `variant=classwise` is the authors' class-wise form: one noise for all images of a class,
    optimised on a random fifth of each class.

    As in the authors' code, the surrogate of `official` and `classwise` gets images in [0, 1],
    not x - 0.5. BatchNorm hides the difference in train mode, except at the zero padding, but
    not in eval mode, in which the noise is made, before its running mean has caught up.
    """

    needs = "labels"

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    variant: Literal["official", "misaligned", "classwise"] = option(
        "official",
        "algorithm: official (one noise per image, the authors' code), misaligned (the REM and "
        "SEM code) or classwise (one noise per class, the authors' code)",
    )
    noise_steps: int | None = option(
        None,
        "number of descent steps at each visit; none: official 20, misaligned 10, classwise 1",
        minimum=1,
    )
    alpha_u: Radius | None = option(
        None,
        "step size of the descent; none: official and misaligned 2 rho_u / noise_steps, "
        "classwise rho_u / 10",
    )
    batch_size: int | None = option(
        None,
        "number of images in a batch; none: official and classwise 512, misaligned 128",
        minimum=1,
    )
    centred: bool | None = option(
        None,
        "input of the surrogate: true for x - 0.5, as other networks get, false for x in [0, 1]; "
        "none: misaligned true, official and classwise false (true before version 0.3)",
    )
    lr: float = option(0.1, "learning rate of the surrogate", minimum=0)
    rounds: int = option(50, "maximum number of rounds", minimum=1, when=_IN_ROUNDS)
    batches: int = option(
        10, "number of surrogate updates in each round", minimum=1, when=_IN_ROUNDS
    )
    stop_error: float = option(
        0.01,
        "training error of the surrogate, as a share, at which the rounds end",
        minimum=0,
        maximum=1,
        when=_IN_ROUNDS,
    )
    steps: int = option(
        5000,
        "number of surrogate updates",
        minimum=1,
        when=("variant is misaligned", lambda attack: attack.variant == "misaligned"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # In version 1 the surrogate of these variants got x - 0.5, and the fifth of class-wise EM
        # did not depend on the labels. Misaligned EM is unchanged, and so are its keys.
        if self.variant != "misaligned":
            object.__setattr__(self, "version", "2")

    def check(self, images: ImageSet) -> None:
        """Refuse a step size of 0, and for class-wise noise too few images of a class.

        Raises:
            UserError: the noise would stay where it starts, at 0; or `variant` is classwise, and a
                class has no image or a fifth of the images is less than one per class.
        """
        if self.alpha_u is not None and not self.alpha_u and self.variant != "misaligned":
            raise UserError(
                f"em.alpha_u={self.alpha_u}: the noise starts at 0 and would stay there; give a "
                "step size above 0, such as 0.8/255"
            )
        if self.variant == "classwise":
            _fifth_of_each(images.labels, images.classes)

    def check_run(self, images: ImageSet, transform: Transform | ResizedCrop, seed: int) -> None:
        """Refuse views of another size than the images, for misaligned noise.

        Raises:
            UserError: `variant` is misaligned and views are smaller than images.
        """
        view = transform.view(images.size)
        if self.variant == "misaligned" and view != images.size:
            raise UserError(
                f"em.variant=misaligned generates noise of the views' size, {view} px, not of "
                f"{images.size} px; use images of that size: --set imagenet-subset.size={view}"
            )

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Alternate surrogate updates and noise descent."""
        if self.variant == "misaligned":
            return self._misaligned(images, harness)
        return self._in_rounds(images, harness)

    def function_of_class(
        self, images: ImageSet, poisoned: Pixels, harness: Harness
    ) -> Callable[[ImageSet], Pixels] | None:
        """Return the addition of class-wise noise, or None for noise of each image."""
        return adding_class_noise(images, poisoned) if self.variant == "classwise" else None

    def image_passes(self, images: int) -> float:
        """Count 15 rounds of the official algorithm, or all steps of the misaligned variant."""
        noise_steps, size = self._noise_steps, min(self._batch_size, images)
        if self.variant == "misaligned":
            return float(self.steps * size * (noise_steps + 1) + images * noise_steps)
        usual, searched = min(self.rounds, 15), images
        if self.variant == "classwise":
            searched = int(_SHARE * images)
        return float(usual * (self.batches * size + searched * noise_steps))

    @property
    def _centred(self) -> bool:
        return self.variant == "misaligned" if self.centred is None else self.centred

    @property
    def _noise_steps(self) -> int:
        usual = {"official": 20, "misaligned": 10, "classwise": 1}
        return self.noise_steps or usual[self.variant]

    @property
    def _step_count(self) -> int:
        """Number of steps that cross the ball, which gives the step size."""
        # The class-wise step size is rho_u / 10 for any number of steps.
        return 20 if self.variant == "classwise" else self._noise_steps

    @property
    def _exact_step(self) -> Fraction | None:
        """Step of which stored noise is made; None for class-wise noise, which is a mean."""
        if self.variant == "classwise":
            return None
        return self.rho_u.exact_step(self._step_count, self.alpha_u)

    @property
    def _batch_size(self) -> int:
        return self.batch_size or (128 if self.variant == "misaligned" else 512)

    def _in_rounds(self, images: ImageSet, harness: Harness) -> Poison:
        pixels, labels = harness.tensors(images)
        rows = self._classwise if self.variant == "classwise" else self._samplewise
        search = rows(images, labels, harness)
        # Trained on unaugmented images; the surrogates of other methods see random views.
        model = harness.network(images, size=images.size, centred=self._centred)
        optimizer = sgd(model, lr=self.lr)
        # Warm-started: each round continues from the noise of the previous one.
        shape = (search.rows, *pixels.shape[1:])
        noise = StoredNoise(shape, self.rho_u, self._exact_step, harness.dtype, harness.device)
        rounds, error = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.float64)
        harness.keep(
            noise=noise.tensor, model=model, optimizer=optimizer, rounds=rounds, error=error
        )

        def noisy(index: Tensor) -> Tensor:
            # Not clamped to [0, 1], as in the official code.
            return harness.unit(pixels[index]) + noise.at(search.row_of[index])

        def update(index: Tensor) -> None:
            x = noisy(index)
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), labels[index]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()

        def descend(index: Tensor, is_new: Tensor) -> None:
            x, y = harness.unit(pixels[index]), labels[index]
            old = noise.at(search.row_of[index])
            delta, gradient = self._descend(model, x, y, old)
            harness.watch(gradient, index)
            search.store(noise, index, torch.where(is_new[:, None, None, None], delta, old))

        def errors(index: Tensor, is_new: Tensor) -> Tensor:
            with torch.no_grad():
                wrong = model.uncompiled(noisy(index)).argmax(1) != labels[index]
            return (wrong & is_new).sum()

        captured_update, captured_descend = harness.capture(update), harness.capture(descend)
        model.train()
        for round_ in harness.loop("rounds", self.rounds):
            # Each round continues with the batch after the last one of the previous round.
            for k in range(round_ * self.batches, (round_ + 1) * self.batches):
                captured_update(search.batch(k))
            for visit in search.visits(round_):
                captured_descend(*visit)
            model.eval()
            visits = search.visits(round_)
            wrong = sum(int(errors(*visit)) for visit in visits)
            error.fill_(wrong / sum(int(is_new.sum()) for _, is_new in visits))
            model.train()
            rounds.fill_(round_ + 1)
            if error <= self.stop_error:
                break
        refuse_divergence(model)
        harness.keep_surrogate(model, int(rounds) * self.batches)
        notes = {"rounds": float(rounds), "training_error": float(error)}
        levels = noise.levels()
        if self.variant == "classwise":
            levels = levels[search.row_of.to(levels.device)]
        return Poison.from_noise(images, levels, self.rho_u, notes)

    def _samplewise(self, images: ImageSet, labels: Tensor, harness: Harness) -> "_Search":
        """Search one noise per image; batches in order, not shuffled."""
        count, size = len(images), min(self._batch_size, len(images))
        visits = list(sweep(count, size, harness.device))

        def batch(k: int) -> Tensor:
            return torch.arange(k * size, (k + 1) * size, device=harness.device) % count

        row_of = torch.arange(count, device=harness.device)
        return _Search(count, row_of, batch, lambda _round: visits, StoredNoise.put)

    def _classwise(self, images: ImageSet, labels: Tensor, harness: Harness) -> "_Search":
        """Search one noise per class: the mean over the class's images in a batch, clamped."""
        count, device, seed = len(images), harness.device, harness.seed
        updates = ShuffledBatches(count, self._batch_size, seed, "surrogate order", device)
        members = _fifth_of_each(images.labels, images.classes)
        subset = _first_of_each(harness.random("subset").permutation(count), labels, members)
        order = ShuffledBatches(len(subset), self._batch_size, seed, "noise order", device)
        is_new = torch.ones(order.size, dtype=torch.bool, device=device)
        radius = float(self.rho_u)

        def visits(round_: int) -> list[tuple[Tensor, Tensor]]:
            first = round_ * order.per_epoch
            return [(subset[order[k]], is_new) for k in range(first, first + order.per_epoch)]

        rows = torch.arange(images.classes, device=device)

        def store(noise: StoredNoise, index: Tensor, delta: Tensor) -> None:
            old = noise.at(rows)
            member = functional.one_hot(labels[index], images.classes).to(delta.dtype)
            counts = member.sum(0)[:, None]
            mean = (member.T @ delta.flatten(1) / counts.clamp(min=1)).view_as(old)
            seen = (counts > 0)[:, :, None, None]
            noise.put(rows, torch.where(seen, mean.clamp(-radius, radius), old))

        return _Search(images.classes, labels, updates.__getitem__, visits, store)

    def _misaligned(self, images: ImageSet, harness: Harness) -> Poison:
        pixels, labels = harness.tensors(images)
        model = harness.network(images, centred=self._centred)
        optimizer = sgd(model, lr=self.lr)
        random = harness.random("generation")
        # In whole levels, since no step starts from stored noise.
        noise = zero_noise(pixels.shape, level_type(self.rho_u), harness.device)
        harness.keep(noise=noise, model=model, optimizer=optimizer)

        def view_and_noise(index: Tensor) -> tuple[Tensor, Tensor]:
            view = random_transform(harness.unit(pixels[index]), harness.transform, random)
            radius = float(self.rho_u)
            start = random.uniform(*view.shape, low=-radius, high=radius)
            delta, gradient = self._descend(model, view, labels[index], start)
            harness.watch(gradient, index)
            return view, (view + delta).clamp(0, 1) - view

        def step(index: Tensor) -> None:
            view, delta = view_and_noise(index)
            noise[index] = _levels(
                delta, noise.dtype
            )  # of the view, stored for the image: the misalignment
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model((view + delta).clamp(0, 1)), labels[index]).backward()
            optimizer.step()

        def extract(index: Tensor, is_new: Tensor) -> None:
            delta = _levels(view_and_noise(index)[1], noise.dtype)
            noise[index] = torch.where(is_new[:, None, None, None], delta, noise[index])

        model.train()
        alternate(
            images,
            harness,
            optimizer,
            steps=self.steps,
            batch_size=self._batch_size,
            lr=self.lr,
            step=step,
            extract=extract,
        )
        refuse_divergence(model)
        harness.keep_surrogate(model, self.steps)
        return Poison.from_noise(images, noise, self.rho_u)

    def _descend(
        self, model: nn.Module, x: Tensor, y: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take `noise_steps` sign-descent steps from `delta`, float [B, 3, H, W].

        Before each step the image is clamped to [0, 1], after it the noise to the ball.

        Returns:
            The noise and the last gradient, both float [B, 3, H, W].
        """
        radius = float(self.rho_u)
        step_size = self.rho_u.step_size(self._step_count, self.alpha_u)
        gradient = delta
        for _ in range(self._noise_steps):
            at = (x + delta).clamp(0, 1)
            gradient = input_gradient(model, at, y)
            delta = (at - step_size * gradient.sign() - x).clamp(-radius, radius)
        return delta, gradient


@dataclass(frozen=True)
class _Search:
    """The order in which rounds visit images, and the noise that belongs to each image.

    Attributes:
        rows: number of noises.
        row_of: index of each image's noise, int64 [N].
        batch: returns the indices of the k-th surrogate update, int64 [B].
        visits: returns the batches of a round's sweep: indices, int64 [B], and whether the
            sweep visits each for the first time, bool [B].
        store: writes the noise of a batch's images, float [B, 3, H, W], into all noise.
    """

    rows: int
    row_of: Tensor
    batch: Callable[[int], Tensor]
    visits: Callable[[int], list[tuple[Tensor, Tensor]]]
    store: Callable[[StoredNoise, Tensor, Tensor], None]


def _levels(noise: Tensor, kind: torch.dtype) -> Tensor:
    """Return noise in whole units of 1/255, of an integer type."""
    return (255 * noise).round().to(kind)


def _fifth_of_each(labels: Labels, classes: int) -> list[int]:
    """Return how many images of each class are in the fifth on which class-wise noise is optimised.

    Shares are proportional, with the largest remainders rounded up (the first of equal ones), and
    every class has an image.

    Args:
        labels: labels of the training set, int64 [N].
        classes: number of classes.

    Raises:
        UserError: a class has no image, or the fifth has fewer images than classes.
    """
    count = len(labels)
    total = int(_SHARE * count)
    sizes = np.bincount(labels, minlength=classes)
    if not sizes.all():
        raise UserError(
            "em.variant=classwise needs images of every class, and the training set has no image "
            f"of class {int(sizes.argmin())}; use --set em.variant=official"
        )
    if total < classes:
        raise UserError(
            f"em.variant=classwise optimises noise on a fifth of the training set, here {total} of "
            f"{count} images, and needs one of each of {classes} classes; use "
            "--set em.variant=official"
        )
    members, rest = np.divmod(total * sizes, count)
    largest = np.argsort(-rest, kind="stable")
    members[largest[: total - members.sum()]] += 1
    while not members.all():
        members[members.argmin()] += 1
        members[members.argmax()] -= 1
    return [int(m) for m in members]


def _first_of_each(order: Tensor, labels: Tensor, members: list[int]) -> Tensor:
    """Return the first images of each class in an order, int64 [N], in that order."""
    own = labels[order]
    chosen = torch.zeros_like(order, dtype=torch.bool)
    for label, number in enumerate(members):
        chosen[torch.nonzero(own == label)[:number, 0]] = True
    return order[chosen]
