"""Error-minimizing noise, as published and as the REM code base runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
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
from unlearnable_bench.attacks.alternation import alternate
from unlearnable_bench.harness import (
    ShuffledBatches,
    input_gradient,
    random_transform,
    refuse_divergence,
    sgd,
    sweep,
)
from unlearnable_bench.images import Labels

_IN_ROUNDS = (
    "variant is official or classwise",
    lambda attack: attack.variant in ("official", "classwise"),
)
_SHARE = 0.2  # of the images, for the search of class-wise noise


@dataclass(frozen=True, kw_only=True)
class EM(Attack):
    """Error-minimizing noise, sample-wise (Huang et al., ICLR 2021).

    min over theta, delta_u of E CE(f_theta(x + delta_u), y).

    `variant=misaligned` is EM as the REM and SEM code base runs it: the noise is
    made on flipped and cropped views, and stored for the images as they are.
    `variant=classwise` is the authors' other form: one noise for all images of a class,
    searched on a random fifth of the set.
    """

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    variant: Literal["official", "misaligned", "classwise"] = option(
        "official", "the authors' algorithm, that of the REM code base, or one noise a class"
    )
    noise_steps: int | None = option(
        None,
        "descent steps; none: 20, misaligned 10, classwise 1",
        minimum=1,
    )
    alpha_u: Radius | None = option(
        None, "length of a descent step; none: 2 rho_u / noise_steps, classwise rho_u / 10"
    )
    batch_size: int | None = option(None, "images in a batch; none: 512, misaligned 128", minimum=1)
    lr: float = option(0.1, "learning rate of the surrogate", minimum=0)
    rounds: int = option(50, "largest number of rounds", minimum=1, when=_IN_ROUNDS)
    batches: int = option(10, "number of surrogate updates in a round", minimum=1, when=_IN_ROUNDS)
    stop_error: float = option(
        0.01,
        "training error of the surrogate that ends the rounds",
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

    def check(self, images: ImageSet) -> None:
        """Refuse a class without an image where noise is made for classes."""
        if self.variant == "classwise":
            _refuse_missing(images.labels, images.classes, "the set")

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Alternate surrogate updates and noise descent."""
        if self.variant == "misaligned":
            return self._misaligned(images, harness)
        return self._in_rounds(images, harness)

    def image_passes(self, images: int) -> float:
        """Count 15 rounds of the official algorithm, or all steps of the misaligned one."""
        noise_steps, size = self._noise_steps, min(self._batch_size, images)
        if self.variant == "misaligned":
            return float(self.steps * size * (noise_steps + 1) + images * noise_steps)
        usual, searched = min(self.rounds, 15), images
        if self.variant == "classwise":
            searched = int(_SHARE * images)
        return float(usual * (self.batches * size + searched * noise_steps))

    @property
    def _noise_steps(self) -> int:
        usual = {"official": 20, "misaligned": 10, "classwise": 1}
        return self.noise_steps or usual[self.variant]

    @property
    def _batch_size(self) -> int:
        return self.batch_size or (128 if self.variant == "misaligned" else 512)

    def _in_rounds(self, images: ImageSet, harness: Harness) -> Poison:
        pixels, labels = harness.tensors(images)
        rows = self._classwise if self.variant == "classwise" else self._samplewise
        search = rows(images, labels, harness)
        # It sees images as they are, where others see random views.
        model = harness.network(images, size=images.size)
        optimizer = sgd(model, lr=self.lr)
        # Warm-started from one round to the next.
        shape = (search.rows, *pixels.shape[1:])
        noise = torch.zeros(shape, dtype=harness.dtype, device=harness.device)
        rounds, error = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.float64)
        harness.keep(noise=noise, model=model, optimizer=optimizer, rounds=rounds, error=error)

        def noisy(index: Tensor) -> Tensor:
            # The sum is not clamped here, as in the official code.
            return harness.unit(pixels[index]) + noise[search.row_of[index]]

        def update(index: Tensor) -> None:
            x = noisy(index)
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), labels[index]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()

        def descend(index: Tensor, fresh: Tensor) -> None:
            x, y, delta = harness.unit(pixels[index]), labels[index], noise[search.row_of[index]]
            found, slope = self._descend(model, x, y, delta)
            harness.watch(slope, index)
            search.store(noise, index, torch.where(fresh[:, None, None, None], found, delta))

        def wrong(index: Tensor, fresh: Tensor) -> Tensor:
            with torch.no_grad():
                missed = model.uncompiled(noisy(index)).argmax(1) != labels[index]
            return (missed & fresh).sum()

        captured_update, captured_descend = harness.capture(update), harness.capture(descend)
        model.train()
        for round_ in harness.loop("rounds", self.rounds):
            # Each round goes on where the last one stopped.
            for k in range(round_ * self.batches, (round_ + 1) * self.batches):
                captured_update(search.batch(k))
            for visit in search.visits(round_):
                captured_descend(*visit)
            model.eval()
            visits = search.visits(round_)
            missed = sum(int(wrong(*visit)) for visit in visits)
            error.fill_(missed / sum(int(fresh.sum()) for _, fresh in visits))
            model.train()
            rounds.fill_(round_ + 1)
            if error <= self.stop_error:
                break
        refuse_divergence(model)
        harness.keep_surrogate(model, int(rounds) * self.batches)
        notes = {"rounds": float(rounds), "training_error": float(error)}
        return self._poison(images, noise[search.row_of], notes)

    def _samplewise(self, images: ImageSet, labels: Tensor, harness: Harness) -> "_Search":
        """One row of noise an image; batches in order, not shuffled."""
        count, size = len(images), min(self._batch_size, len(images))
        visits = list(sweep(count, size, harness.device))

        def store(noise: Tensor, index: Tensor, found: Tensor) -> None:
            noise[index] = found

        def batch(k: int) -> Tensor:
            return torch.arange(k * size, (k + 1) * size, device=harness.device) % count

        row_of = torch.arange(count, device=harness.device)
        return _Search(count, row_of, batch, lambda _round: visits, store)

    def _classwise(self, images: ImageSet, labels: Tensor, harness: Harness) -> "_Search":
        """One row of noise a class: the mean over the class's images of a batch, clamped."""
        count, device, seed = len(images), harness.device, harness.seed
        updates = ShuffledBatches(count, self._batch_size, seed, "surrogate order", device)
        subset = harness.random("subset").permutation(count)[: int(_SHARE * count)]
        _refuse_missing(labels[subset].cpu().numpy(), images.classes, "the fifth that is searched")
        order = ShuffledBatches(len(subset), self._batch_size, seed, "noise order", device)
        fresh = torch.ones(order.size, dtype=torch.bool, device=device)
        radius = float(self.rho_u)

        def visits(round_: int) -> list[tuple[Tensor, Tensor]]:
            first = round_ * order.per_epoch
            return [(subset[order[k]], fresh) for k in range(first, first + order.per_epoch)]

        def store(noise: Tensor, index: Tensor, found: Tensor) -> None:
            member = functional.one_hot(labels[index], images.classes).to(found.dtype)
            counts = member.sum(0)[:, None]
            mean = (member.T @ found.flatten(1) / counts.clamp(min=1)).view_as(noise)
            seen = (counts > 0)[:, :, None, None]
            noise.copy_(torch.where(seen, mean.clamp(-radius, radius), noise))

        return _Search(images.classes, labels, updates.__getitem__, visits, store)

    def _misaligned(self, images: ImageSet, harness: Harness) -> Poison:
        view = harness.transform.view(images.size)
        if view != images.size:
            raise UserError(
                f"em.variant=misaligned makes noise of {view} px, as views are, not of "
                f"{images.size} px; take images of that size: --set imagenet-subset.size={view}"
            )
        pixels, labels = harness.tensors(images)
        model = harness.network(images)
        optimizer = sgd(model, lr=self.lr)
        random = harness.random("generation")
        noise = torch.zeros(pixels.shape, dtype=harness.dtype, device=harness.device)
        harness.keep(noise=noise, model=model, optimizer=optimizer)

        def view_and_noise(index: Tensor) -> tuple[Tensor, Tensor]:
            view = random_transform(harness.unit(pixels[index]), harness.transform, random)
            radius = float(self.rho_u)
            start = random.uniform(*view.shape, low=-radius, high=radius)
            found, slope = self._descend(model, view, labels[index], start)
            harness.watch(slope, index)
            return view, (view + found).clamp(0, 1) - view

        def step(index: Tensor) -> None:
            view, found = view_and_noise(index)
            noise[index] = found  # of the view, kept for the image: the misalignment
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model((view + found).clamp(0, 1)), labels[index]).backward()
            optimizer.step()

        def extract(index: Tensor, fresh: Tensor) -> None:
            found = view_and_noise(index)[1]
            noise[index] = torch.where(fresh[:, None, None, None], found, noise[index])

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
        return self._poison(images, noise, {})

    def _descend(
        self, model: nn.Module, x: Tensor, y: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take the descent steps from delta: image to [0, 1] after each, noise to the ball.

        Returns:
            The noise, and the last gradient.
        """
        radius = float(self.rho_u)
        # A class-wise step is rho_u / 10 for any number of them.
        usual = 20 if self.variant == "classwise" else self._noise_steps
        step = self.rho_u.step(usual, self.alpha_u)
        slope = delta
        for _ in range(self._noise_steps):
            at = (x + delta).clamp(0, 1)
            slope = input_gradient(model, at, y)
            delta = (at - step * slope.sign() - x).clamp(-radius, radius)
        return delta, slope

    def _poison(self, images: ImageSet, noise: Tensor, notes: dict[str, float]) -> Poison:
        return Poison.from_noise(images, 255 * noise, self.rho_u, notes)


@dataclass(frozen=True)
class _Search:
    """How the rounds go through the images.

    Attributes:
        rows: number of noises.
        row_of: int64 [N], which of them an image carries.
        batch: indices of the k-th update of the surrogate.
        visits: of a round's sweep: indices, and which of them count.
        store: writes what was found for a batch's images into the noise.
    """

    rows: int
    row_of: Tensor
    batch: Callable[[int], Tensor]
    visits: Callable[[int], list[tuple[Tensor, Tensor]]]
    store: Callable[[Tensor, Tensor, Tensor], None]


def _refuse_missing(labels: Labels, classes: int, where: str) -> None:
    missing = set(range(classes)) - set(labels.tolist())
    if missing:
        raise UserError(
            f"em.variant=classwise makes noise for each class, and {where} has no image of class "
            f"{min(missing)}; take em.variant=official"
        )
