"""TUE through momentum contrast equals its literal transcription, and refuses what cannot work."""

from dataclasses import replace
from typing import Any

import attack_checks
import numpy as np
import pytest
import torch
from helpers import Pooled, Tiny, make_harness, random_images
from oracle_parts import (
    added,
    colourful,
    discriminant,
    pixels_of,
    quantised,
    view_of_each,
    windows,
)
from torch import Tensor, nn

from unlearnable_bench import Harness, ImageSet, Radius, Random, Transform, UserError, make_plan
from unlearnable_bench.attacks import tue
from unlearnable_bench.attacks._moco import split_norms
from unlearnable_bench.attacks.tue import TUE
from unlearnable_bench.harness import ShuffledBatches

SMALL: dict[str, Any] = {
    "variant": "moco", "epochs": 2, "steps": 3, "batch_size": 8, "queue": 16, "splits": 2, "lr": 0.1
}  # fmt: skip


def in_parts(network: nn.Sequential, x: Tensor, splits: int) -> Tensor:
    """Apply a network in train mode; BatchNorm sees the parts of the batch one after another."""
    for layer in network:
        if not isinstance(layer, nn.BatchNorm2d):
            x = layer(x)
            continue
        assert layer.running_mean is not None
        assert layer.running_var is not None
        parts, means, variances = [], [], []
        for part in x.split(len(x) // splits):
            values = part.transpose(0, 1).flatten(1)
            mean, variance = values.mean(1), values.var(1, unbiased=False)
            scale = layer.weight / (variance + layer.eps).sqrt()
            parts.append((part - mean[:, None, None]) * scale[:, None, None])
            means.append(mean.detach())
            variances.append(values.var(1).detach())
        x = torch.cat(parts) + layer.bias[:, None, None]
        for running, found in ((layer.running_mean, means), (layer.running_var, variances)):
            running.copy_(0.9 * running + 0.1 * torch.stack(found).mean(0))
    return x


def contrast(query: Tensor, key: Tensor, queue: list[Tensor], temperature: float) -> Tensor:
    """Return the loss of one image: its own key against the keys of others."""
    cosines = [torch.cosine_similarity(query, other, dim=0) for other in [key, *queue]]
    weights = [torch.exp(cosine / temperature) for cosine in cosines]
    return -torch.log(weights[0] / torch.stack(weights).sum())


def rounded(gradient: Tensor) -> Tensor:
    """Return a gradient without its rounding errors.

    Where all noise of a batch has one sign, the means of classes are equal, and rounding would
    decide the sign of the step.
    """
    return (1e10 * gradient).round() / 1e10


class Transcription:
    """The authors' loop, image by image, with the random numbers of the method."""

    def __init__(self, images: ImageSet, attack: TUE, *, flip: bool) -> None:
        self.attack, self.transform = attack, Transform(2, flip)
        features = replace(images, classes=128)
        harness = make_harness(flip=flip, learner=Pooled())
        self.query, self.key = (
            attack_checks.starting_network(harness, features).network for _ in range(2)
        )
        self.velocities = [torch.zeros_like(w) for w in self.query.parameters()]
        start = Random(0, "queue").normal(attack.queue, 128).double()
        self.queue = [row / row.norm() for row in start]
        self.views, self.orders = Random(0, "views"), Random(0, "keys")

    def view(self, x: Tensor, *, alike: bool) -> Tensor:
        return view_of_each(x, 1.0, self.transform, self.views, area=0.08, alike=alike)

    def losses(self, queries: Tensor, keys: Tensor) -> Tensor:
        temperature = self.attack.temperature
        pairs = zip(queries, keys, strict=True)
        losses = [contrast(q, k, self.queue, temperature) for q, k in pairs]
        # The oldest are the first.
        own = [(key / key.norm()).detach() for key in keys]
        self.queue = [*self.queue, *own][-self.attack.queue :]
        return torch.stack(losses).mean()

    def update(self, x: Tensor) -> None:
        with torch.no_grad():
            for k, q in zip(self.key.parameters(), self.query.parameters(), strict=True):
                k.copy_(self.attack.momentum * k + (1 - self.attack.momentum) * q)
        first, second = self.view(x, alike=False), self.view(x, alike=False)
        queries = in_parts(self.query, first, self.attack.splits)
        order = self.orders.permutation(len(x)).tolist()
        with torch.no_grad():
            shuffled = in_parts(self.key, second[order], self.attack.splits)
        keys = torch.stack([shuffled[order.index(i)] for i in range(len(x))])
        weights = list(self.query.parameters())
        slopes = torch.autograd.grad(self.losses(queries, keys), weights)
        lr = float(np.float32(self.attack.lr))  # the optimizer holds it as a float32 tensor
        with torch.no_grad():
            for w, g, v in zip(weights, slopes, self.velocities, strict=True):
                v.copy_(0.9 * v + g + 1e-4 * w)
                w.sub_(lr * v)

    def descended(self, x: Tensor, delta: Tensor, labels: list[int]) -> Tensor:
        self.query.eval()
        self.key.eval()
        radius = float(self.attack.rho_u)
        for _ in range(self.attack.steps or 5):
            noise = delta.clone().requires_grad_()
            shown = (x + noise).clamp(0, 1)
            queries = self.query(self.view(shown, alike=True))
            keys = self.key(self.view(shown, alike=True))
            slope = torch.autograd.grad(self.losses(queries, keys), noise)[0]
            separating = discriminant(noise.flatten(1), labels)
            found = torch.autograd.grad(separating, noise, allow_unused=True)[0]
            slope = slope + self.attack.separation * rounded(found)
            delta = (x + delta).clamp(0, 1) - x - radius / 10 * slope.sign()
            delta = delta.clamp(-radius, radius)
        return delta


def poisoned_by_loops(images: ImageSet, attack: TUE, *, flip: bool) -> np.ndarray:
    made = Transcription(images, attack, flip=flip)
    pixels, labels = pixels_of(images)
    x, count, size = pixels / 255, len(images), attack.batch_size
    noise, k = torch.zeros_like(x), 0
    order = ShuffledBatches(count, size, 0, "encoder order", torch.device("cpu"))
    for epoch in range(attack.epochs):
        for _ in range(count // size):
            made.update(x[order[k]] + noise[order[k]])
            k += 1
        turn = Random(0, f"noise order/epoch {epoch}").permutation(count).tolist()
        for places, new in windows(count, size):
            batch = [turn[place] for place in places]
            delta = made.descended(x[batch], noise[batch], labels[batch].tolist())
            noise[batch[:new]] = delta[:new]
    return added(images, quantised(noise, attack.rho_u.levels))


@pytest.mark.parametrize(
    ("changed", "flip"),
    [
        ({}, True),
        ({}, False),
        ({"separation": 0.0, "temperature": 1.0}, True),
        ({"separation": 30.0, "rho_u": Radius("16/255")}, True),
        ({"splits": 4, "momentum": 0.5, "lr": 1.0, "epochs": 3}, True),
        ({"splits": 1, "queue": 8}, True),
    ],
    ids=str,
)
def test_equals_the_transcription(
    changed: dict[str, Any], *, flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    separating = tue._separating
    monkeypatch.setattr(tue, "_separating", lambda *given: rounded(separating(*given)))
    attack, images = TUE(**SMALL | changed), colourful(21)
    poison = attack.generate(images, make_harness(flip=flip, learner=Pooled()))
    expected = poisoned_by_loops(images, attack, flip=flip)
    assert (poison.images == expected).mean() > 0.999
    attack_checks.check_budget(poison, images)


def test_batch_norm_of_parts_is_that_of_the_whole_if_there_is_one_part() -> None:
    x = torch.rand(6, 3, 4, 4, dtype=torch.float64)
    whole = nn.BatchNorm2d(3).double()
    part = nn.BatchNorm2d(3).double()
    split_norms(part, 1)
    torch.testing.assert_close(part(x), whole(x))
    torch.testing.assert_close(part.running_var, whole.running_var)
    torch.testing.assert_close(part.eval()(x), whole.eval()(x))


def test_black_and_white_images_change() -> None:
    """Also in the first steps, when the noise is 0 and the values are on the bounds."""
    pixels = np.random.default_rng(0).choice([0, 255], (16, 8, 8, 3)).astype(np.uint8)
    images = ImageSet(pixels, np.arange(16) % 2, 2)
    poison = TUE(**SMALL | {"separation": 0.0}).generate(images, make_harness(learner=Pooled()))
    assert (poison.images != pixels).mean() > 0.4  # into the range, for half of the values


def test_a_batch_of_one_class_has_the_gradient_of_the_contrastive_loss_alone() -> None:
    images = colourful(16)
    one = ImageSet(images.images, np.zeros(16, np.int64), 2)
    found = [
        TUE(**SMALL | {"separation": weight}).generate(one, make_harness(learner=Pooled())).images
        for weight in (0.0, 100.0)
    ]
    np.testing.assert_array_equal(*found)


class Counting:
    """Counts single images through the networks of a harness: a third for a forward pass alone."""

    def __init__(self, harness: Harness) -> None:
        self.passes, self._made = 0.0, harness.network

    def network(self, *args: Any, **kwargs: Any) -> nn.Module:
        model = self._made(*args, **kwargs)

        def count(_: nn.Module, inputs: tuple[Tensor]) -> None:
            self.passes += len(inputs[0]) * (1 if torch.is_grad_enabled() else 1 / 3)

        model.register_forward_pre_hook(count)
        return model


@pytest.mark.parametrize("count", [25, 32])
def test_image_passes_are_those_counted(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = make_harness(learner=Tiny())
    counting = Counting(harness)
    monkeypatch.setattr(harness, "network", counting.network)
    attack = TUE(**SMALL)
    attack.generate(random_images(count), harness)
    assert attack.image_passes(count) == pytest.approx(counting.passes)


def test_only_momentum_contrast_trains_a_network() -> None:
    assert TUE().surrogate == "none"
    assert TUE().image_passes(50_000) == 0
    assert TUE(variant="moco").surrogate == "own"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, r"takes batches of 512 images, and the training set has 40; lower tue\.batch_size"),
        ({"batch_size": "24"}, r"tue\.queue=4096 must be a multiple .* --set tue\.queue=4080"),
        ({"batch_size": "32", "queue": "16"}, r"--set tue\.queue=32"),
        ({"batch_size": "32", "splits": "5"}, r"tue\.splits=5 must divide tue\.batch_size, 32"),
        ({"batch_size": "32", "splits": "32"}, r"into parts of two images or more"),
    ],
)
def test_batches_that_cannot_work_are_refused_in_the_plan(
    settings: dict[str, str], words: str
) -> None:
    few = {"shapes.train": "40", "shapes.test": "10", "tue.variant": "moco"}
    few |= {f"tue.{name}": value for name, value in settings.items()}
    with pytest.raises(UserError, match=words):
        make_plan(methods=["tue"], dataset="shapes", preset="fast", settings=few)


def test_an_option_of_the_other_variant_is_refused() -> None:
    for settings in ({"tue.queue": "64"}, {"tue.variant": "moco", "tue.sweeps": "2"}):
        with pytest.raises(UserError, match="has no effect in this plan; it is read if variant is"):
            make_plan(methods=["tue"], preset="smoke", settings=settings)
