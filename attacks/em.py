"""Error-minimizing noise, as published and as the REM code base runs it."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import (
    Attack,
    Budget,
    Harness,
    ImageSet,
    Poison,
    Radius,
    UserError,
    add_noise,
    option,
)
from unlearnable_bench.attacks.alternation import alternate
from unlearnable_bench.harness import (
    input_gradient,
    random_transform,
    refuse_divergence,
    sgd,
    sweep,
)


@dataclass(frozen=True, kw_only=True)
class EM(Attack):
    """Error-minimizing noise, sample-wise (Huang et al., ICLR 2021).

    min over theta, delta_u of E CE(f_theta(x + delta_u), y).

    `variant=misaligned` is EM as the REM and SEM code base runs it: the noise is
    made on flipped and cropped views, and stored for the images as they are.
    """

    rho_u: Radius = option(Radius("8/255"), "radius of the noise, L-infinity")
    variant: Literal["official", "misaligned"] = option(
        "official", "the authors' algorithm, or that of the REM code base"
    )
    noise_steps: int | None = option(
        None, "descent steps, each 2 rho_u / noise_steps; none: 20, misaligned 10", minimum=1
    )
    batch_size: int | None = option(None, "images in a batch; none: 512, misaligned 128", minimum=1)
    lr: float = option(0.1, "learning rate of the surrogate", minimum=0)
    rounds: int = option(50, "official: rounds at most", minimum=1)
    batches: int = option(10, "official: surrogate updates in a round", minimum=1)
    stop_error: float = option(
        0.01, "official: stop once the surrogate's training error is this low", minimum=0, maximum=1
    )
    steps: int = option(5000, "misaligned: surrogate updates", minimum=1)

    def generate(self, images: ImageSet, harness: Harness) -> Poison:
        """Alternate surrogate updates and noise descent."""
        run = self._official if self.variant == "official" else self._misaligned
        return run(images, harness)

    def image_passes(self, images: int) -> float:
        """Count 15 rounds of the official algorithm, or all steps of the misaligned one."""
        noise_steps, size = self._noise_steps, min(self._batch_size, images)
        if self.variant == "misaligned":
            return float(self.steps * size * (noise_steps + 1) + images * noise_steps)
        usual = min(self.rounds, 15)
        return float(usual * (self.batches * size + images * noise_steps))

    @property
    def _noise_steps(self) -> int:
        return self.noise_steps or (20 if self.variant == "official" else 10)

    @property
    def _batch_size(self) -> int:
        return self.batch_size or (512 if self.variant == "official" else 128)

    def _official(self, images: ImageSet, harness: Harness) -> Poison:
        pixels, labels = harness.tensors(images)
        count, size = len(images), min(self._batch_size, len(images))
        # It sees images as they are, where others see random views.
        model = harness.network(images, size=images.size)
        optimizer = sgd(model, lr=self.lr)
        # Warm-started from one round to the next.
        noise = torch.zeros(pixels.shape, dtype=harness.dtype, device=harness.device)
        rounds, error = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.float64)
        harness.keep(noise=noise, model=model, optimizer=optimizer, rounds=rounds, error=error)

        def update(index: Tensor) -> None:
            # The sum is not clamped here, as in the official code.
            x = harness.unit(pixels[index]) + noise[index]
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), labels[index]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()

        def descend(index: Tensor, fresh: Tensor) -> None:
            x, y, delta = harness.unit(pixels[index]), labels[index], noise[index]
            found, slope = self._descend(model, x, y, delta)
            harness.watch(slope, index)
            noise[index] = torch.where(fresh[:, None, None, None], found, delta)

        def wrong(index: Tensor, fresh: Tensor) -> Tensor:
            x = harness.unit(pixels[index]) + noise[index]
            with torch.no_grad():
                missed: Tensor = model(x).argmax(1) != labels[index]
            return (missed & fresh).sum()

        visits = list(sweep(count, size, harness.device))
        captured_update, captured_descend = harness.capture(update), harness.capture(descend)
        model.train()
        for round_ in harness.loop("rounds", self.rounds):
            # In order, not shuffled; each round goes on where the last one stopped.
            for k in range(round_ * self.batches, (round_ + 1) * self.batches):
                captured_update(
                    torch.arange(k * size, (k + 1) * size, device=harness.device) % count
                )
            for visit in visits:
                captured_descend(*visit)
            model.eval()
            with torch.compiler.set_stance("force_eager"):
                error.fill_(sum(int(wrong(*visit)) for visit in visits) / count)
            model.train()
            rounds.fill_(round_ + 1)
            if error <= self.stop_error:
                break
        refuse_divergence(model)
        notes = {"rounds": float(rounds), "training_error": float(error)}
        return self._poison(images, noise, notes)

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
        harness.keep(noise=noise, model=model, optimizer=optimizer, random=random)

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
        return self._poison(images, noise, {})

    def _descend(
        self, model: nn.Module, x: Tensor, y: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take the descent steps from delta: image to [0, 1] after each, noise to the ball.

        Returns:
            The noise, and the last gradient.
        """
        radius, step = float(self.rho_u), 2 * float(self.rho_u) / self._noise_steps
        slope = delta
        for _ in range(self._noise_steps):
            at = (x + delta).clamp(0, 1)
            slope = input_gradient(model, at, y)
            delta = (at - step * slope.sign() - x).clamp(-radius, radius)
        return delta, slope

    def _poison(self, images: ImageSet, noise: Tensor, notes: dict[str, float]) -> Poison:
        levels = (255 * noise).permute(0, 2, 3, 1).cpu().numpy()
        poisoned = add_noise(images.images, levels, self.rho_u)
        return Poison(poisoned, Budget("linf", self.rho_u), notes)
