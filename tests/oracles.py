"""Slow, literal transcriptions of the methods, for the fast code to be compared with.

Written from the descriptions of the algorithms, in float64, one image, one EOT
sample and one step after the other. They share with the package nothing but its
random numbers, drawn in the same order, and the network that they start from.
Gradients of the cross-entropy are autograd's; everything around them is by hand.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from oracle_parts import (
    SGD,
    added,
    ascend,
    clamp_slope,
    draw_uniform,
    draw_views,
    into_ball_and_box,
    late_stepped_lr,
    length_of,
    middle,
    pixels_of,
    quantised,
    slope_at,
    stepped_lr,
    triangular_lr,
    windows,
)
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import ImageSet, Random, ResizedCrop, Transform
from unlearnable_bench.harness import ShuffledBatches


def em_official(network: nn.Module, images: ImageSet, options: Any) -> tuple[np.ndarray, dict]:
    """Rounds of surrogate batches and a sweep of descent, until the training error is low."""
    pixels, labels = pixels_of(images)
    count = len(images)
    radius, steps = float(options.rho_u), options.noise_steps or 20
    length = length_of(options.alpha_u, 2 * radius / steps)
    size = min(options.batch_size or 512, count)
    optimizer = SGD(network)
    eta = torch.zeros_like(pixels)
    position, rounds, error = 0, 0, 1.0
    while rounds < options.rounds:
        for _ in range(options.batches):
            batch = [(position + k) % count for k in range(size)]
            position += size
            optimizer.step(pixels[batch] / 255 + eta[batch], labels[batch], options.lr, 5.0)
        for i in range(count):
            x = pixels[i] / 255
            adversarial = (x + eta[i]).clamp(0, 1)
            for _ in range(steps):
                slope = slope_at(network, adversarial[None], labels[i : i + 1])[0]
                adversarial = adversarial - length * slope.sign()
                eta[i] = (adversarial - x).clamp(-radius, radius)
                adversarial = (x + eta[i]).clamp(0, 1)
        network.eval()
        with torch.no_grad():
            misses = [
                int(network(pixels[i : i + 1] / 255 + eta[i : i + 1]).argmax() != labels[i])
                for i in range(count)
            ]
        rounds, error = rounds + 1, sum(misses) / count
        if error <= options.stop_error:
            break
    notes = {"rounds": float(rounds), "training_error": error}
    return added(images, quantised(eta, options.rho_u.levels)), notes


def em_classwise(
    network: nn.Module, images: ImageSet, options: Any, seed: int
) -> tuple[np.ndarray, dict]:
    """One noise a class: the mean over its members in each batch of a fifth of each class."""
    pixels, labels = pixels_of(images)
    count, radius = len(images), float(options.rho_u)
    size = min(options.batch_size or 512, count)
    optimizer = SGD(network)
    eta = torch.zeros_like(pixels[: images.classes])
    step = length_of(options.alpha_u, radius / 10)
    subset = stratified_fifth(images.labels.tolist(), images.classes, seed)
    small = min(options.batch_size or 512, len(subset))
    updates, rounds, error = 0, 0, 1.0

    def shuffled(stream: str, epoch: int, length: int) -> list[int]:
        order: list[int] = Random(seed, f"{stream}/epoch {epoch}").permutation(length).tolist()
        return order

    while rounds < options.rounds:
        for _ in range(options.batches):
            epoch, place = divmod(updates, count // size)
            batch = shuffled("surrogate order", epoch, count)[place * size : (place + 1) * size]
            updates += 1
            optimizer.step(pixels[batch] / 255 + eta[labels[batch]], labels[batch], options.lr, 5.0)
        order = shuffled("noise order", rounds, len(subset))
        visited = [subset[i] for i in order[: len(subset) // small * small]]
        for start in range(0, len(visited), small):
            members: dict[int, list[Tensor]] = {}
            for i in visited[start : start + small]:
                x, label = pixels[i] / 255, int(labels[i])
                adversarial = (x + eta[label]).clamp(0, 1)
                delta = eta[label]
                for _ in range(options.noise_steps or 1):
                    slope = slope_at(network, adversarial[None], labels[i : i + 1])[0]
                    adversarial = adversarial - step * slope.sign()
                    delta = (adversarial - x).clamp(-radius, radius)
                    adversarial = (x + delta).clamp(0, 1)
                members.setdefault(label, []).append(delta)
            for label, deltas in members.items():
                eta[label] = (sum(deltas) / len(deltas)).clamp(-radius, radius)
        network.eval()
        with torch.no_grad():
            misses = [
                int(network(pixels[i][None] / 255 + eta[labels[i]][None]).argmax() != labels[i])
                for i in visited
            ]
        rounds, error = rounds + 1, sum(misses) / len(visited)
        if error <= options.stop_error:
            break
    notes = {"rounds": float(rounds), "training_error": error}
    return added(images, quantised(eta[labels], options.rho_u.levels)), notes


def stratified_fifth(labels: list[int], classes: int, seed: int) -> list[int]:
    """Return a fifth of each class: whole parts, then one more by largest remainder."""
    total = len(labels) // 5
    exact = [Fraction(total * labels.count(c), len(labels)) for c in range(classes)]
    members = [math.floor(share) for share in exact]
    for c in sorted(range(classes), key=lambda c: members[c] - exact[c])[: total - sum(members)]:
        members[c] += 1
    subset: list[int] = []
    for i in Random(seed, "subset").permutation(len(labels)).tolist():
        if members[labels[i]] > 0:
            members[labels[i]] -= 1
            subset.append(i)
    return subset


def em_misaligned(
    network: nn.Module,
    images: ImageSet,
    transform: Transform | ResizedCrop,
    seed: int,
    options: Any,
) -> np.ndarray:
    """Noise of a random view, kept for the image as it is."""
    pixels, labels = pixels_of(images)
    count = len(images)
    radius, steps = float(options.rho_u), options.noise_steps or 10
    length = length_of(options.alpha_u, 2 * radius / steps)
    random = Random(seed, "generation")
    size = min(options.batch_size or 128, count)
    batches = ShuffledBatches(count, size, seed, "generation order", torch.device("cpu"))
    optimizer = SGD(network)
    noise = torch.zeros_like(pixels)

    def noise_step(batch: list[int]) -> tuple[Tensor, Tensor]:
        views = draw_views(size, transform, random)
        x = torch.stack([views[k].of(pixels[i] / 255) for k, i in enumerate(batch)])
        found = into_ball_and_box(x + draw_uniform(tuple(x.shape), radius, random), x, radius)
        for _ in range(steps):
            slopes = slope_at(network, found, labels[batch])
            found = into_ball_and_box(found - length * slopes.sign(), x, radius)
        return x, found - x

    for k in range(options.steps):
        batch = batches[k].tolist()
        x, found = noise_step(batch)
        for row, i in enumerate(batch):
            noise[i] = found[row]
        lr = stepped_lr(options.lr, k, options.steps)
        optimizer.step((x + found).clamp(0, 1), labels[batch], lr)
    for batch, new in windows(count, size):
        _, found = noise_step(batch)
        for row in range(new):
            noise[batch[row]] = found[row]
    return added(images, quantised(noise, options.rho_u.levels))


def rem(
    network: nn.Module,
    images: ImageSet,
    transform: Transform | ResizedCrop,
    seed: int,
    options: Any,
) -> np.ndarray:
    """Noise against PGD, surrogate against PGD."""
    return _robust(network, images, transform, seed, options, "pgd")


def sem(
    network: nn.Module,
    images: ImageSet,
    transform: Transform | ResizedCrop,
    seed: int,
    options: Any,
) -> np.ndarray:
    """Noise against uniform perturbations, surrogate against PGD."""
    return _robust(network, images, transform, seed, options, "uniform")


def arm(
    network: nn.Module,
    images: ImageSet,
    transform: Transform | ResizedCrop,
    seed: int,
    options: Any,
) -> np.ndarray:
    """Noise against any perturbation, surrogate against PGD: an arm of the ablation."""
    return _robust(network, images, transform, seed, options, options.perturbation)


def asr(
    network: nn.Module,
    images: ImageSet,
    transform: Transform | ResizedCrop,
    seed: int,
    options: Any,
) -> np.ndarray:
    """Noise without a perturbation, surrogate against PGD and towards chance on clean views."""

    def distance_from_chance(views: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for scores in network(views):
            shares = scores.exp() / scores.exp().sum()
            square = sum((share - 1 / len(shares)) ** 2 for share in shares)
            total = total + (square if options.squared else square**0.5)
        return options.weight * total / len(views)

    return _robust(network, images, transform, seed, options, "none", distance_from_chance)


def _robust(  # noqa: C901, PLR0915 - in one piece, to be read beside the paper
    network: nn.Module,
    images: ImageSet,
    transform: Transform | ResizedCrop,
    seed: int,
    options: Any,
    perturbation: str,
    regulariser: Callable[[Tensor], Tensor] | None = None,
) -> np.ndarray:
    pixels, labels = pixels_of(images)
    count = len(images)
    rho_u, rho_a = float(options.rho_u), float(options.rho_a)
    noise_rho_a = rho_a if options.noise_rho_a is None else float(options.noise_rho_a)
    pgd = (options.attack_steps, options.alpha_a)
    random = Random(seed, "generation")
    size = min(options.batch_size, count)
    batches = ShuffledBatches(count, size, seed, "generation order", torch.device("cpu"))
    optimizer = SGD(network)
    noise = torch.zeros_like(pixels)

    def noise_step(batch: list[int]) -> Tensor:
        x, y = pixels[batch] / 255, labels[batch]
        delta = draw_uniform(tuple(x.shape), rho_u, random)
        for _ in range(options.noise_steps):
            views = draw_views(options.samples * size, transform, random)
            side = views[0].of(x[0]).shape[-1]
            extra, shape = None, (options.samples * size, 3, side, side)
            if noise_rho_a and perturbation == "gaussian":
                extra = noise_rho_a * random.normal(*shape).double()
                extra = extra.clamp(-noise_rho_a, noise_rho_a)
            elif noise_rho_a and perturbation != "none":
                extra = draw_uniform(shape, noise_rho_a, random)
            total = torch.zeros_like(delta)
            for sample in range(options.samples):
                rows = range(sample * size, (sample + 1) * size)
                seen = [views[row].of((x[k] + delta[k]).clamp(0, 1)) for k, row in enumerate(rows)]
                at = torch.stack(seen)
                if extra is not None and perturbation == "pgd":
                    at = ascend(network, at, y, extra[rows], noise_rho_a, *pgd)
                elif extra is not None:
                    at = (at + extra[rows]).clamp(0, 1)
                slopes = slope_at(network, at, y)
                for k, row in enumerate(rows):
                    moved = x[k] + delta[k]
                    total[k] += views[row].adjoint(slopes[k], moved) * clamp_slope(moved)
            length = length_of(options.alpha_u, 2 * rho_u / options.noise_steps)
            delta = (delta - length * total.sign()).clamp(-rho_u, rho_u)
        return quantised(delta, options.rho_u.levels)

    for step in range(options.steps):
        batch = batches[step].tolist()
        found = noise_step(batch)
        for row, i in enumerate(batch):
            noise[i] = found[row]
        views = draw_views(size, transform, random)
        seen = [views[k].of((pixels[i] + noise[i]) / 255).clamp(0, 1) for k, i in enumerate(batch)]
        x = torch.stack(seen)
        if rho_a:
            start = draw_uniform(tuple(x.shape), rho_a, random)
            x = ascend(network, x, labels[batch], start, rho_a, *pgd)
        extra = None
        if regulariser:
            views = draw_views(size, transform, random)
            seen = torch.stack([views[k].of(pixels[i] / 255) for k, i in enumerate(batch)])
            extra = partial(regulariser, seen)
        lr = stepped_lr(options.lr, step, options.steps)
        optimizer.step(x, labels[batch], lr, extra=extra)
    for batch, new in windows(count, size):
        found = noise_step(batch)
        for row in range(new):
            noise[batch[row]] = found[row]
    return added(images, noise)


def train(
    network: nn.Module,
    images: ImageSet,
    test: ImageSet,
    transform: Transform | ResizedCrop,
    seed: int,
    rho_a: float,
    training: Any,
) -> list[float]:
    """Train in place; return the test accuracy after each epoch, in percent."""
    pixels, labels = pixels_of(images)
    count = len(images)
    share = training.label_smoothing
    targets = torch.full((count, images.classes), share / images.classes, dtype=torch.float64)
    for i in range(count):
        targets[i, labels[i]] += 1 - share
    random = Random(seed, "training")
    size = min(training.batch_size, count)
    batches = ShuffledBatches(count, size, seed, "training order", torch.device("cpu"))
    per_epoch = count // size
    steps = training.steps or training.epochs * per_epoch
    optimizer = SGD(network, training.momentum, training.weight_decay, nesterov=training.nesterov)
    schedules = {"steps": stepped_lr, "late-steps": late_stepped_lr, "triangle": triangular_lr}
    schedule = schedules[training.schedule]
    accuracies = []
    for step in range(steps):
        batch = batches[step].tolist()
        views = draw_views(size, transform, random)
        x = torch.stack([views[k].of(pixels[i] / 255) for k, i in enumerate(batch)])
        y = targets[batch]
        if rho_a:
            start = draw_uniform(tuple(x.shape), rho_a, random)
            x = ascend(network, x, y, start, rho_a, training.pgd_steps)
        optimizer.step(x, y, schedule(training.lr, step, steps))
        if (step + 1) % per_epoch == 0 or step + 1 == steps:
            accuracies.append(accuracy(network, test))
    return accuracies


def accuracy(network: nn.Module, images: ImageSet) -> float:
    """Return the percentage of images classified right, one at a time."""
    pixels, labels = pixels_of(images)
    network.eval()
    with torch.no_grad():
        right = [
            bool(network(pixels[i : i + 1] / 255).argmax() == labels[i]) for i in range(len(images))
        ]
    return 100 * sum(right) / len(images)


def tap(
    network: nn.Module,
    images: ImageSet,
    transform: Transform | ResizedCrop,
    seed: int,
    options: Any,
) -> tuple[np.ndarray, list[float]]:
    """Return the poison and the mean loss of each restart; `network` is trained already."""
    pixels, labels = pixels_of(images)
    count, radius = len(images), float(options.rho_u)
    aims = labels if options.untargeted else (labels + 1) % images.classes
    sign = 1 if options.untargeted else -1
    random = Random(seed, "generation")
    size = min(options.batch_size, count)
    found, losses = [], []
    for _ in range(options.restarts):
        noise, total = torch.zeros_like(pixels), 0.0
        for batch, new in windows(count, size):
            x, y = pixels[batch] / 255, aims[batch]
            delta = draw_uniform(tuple(x.shape), radius, random)
            for _ in range(options.steps):
                views = draw_views(size, transform, random)
                seen = [views[k].of((x[k] + delta[k]).clamp(0, 1)) for k in range(size)]
                slopes = slope_at(network, torch.stack(seen), y)
                for k in range(size):
                    moved = x[k] + delta[k]
                    slope = views[k].adjoint(slopes[k], moved) * clamp_slope(moved)
                    length = length_of(options.alpha_u, radius / 20)
                    moved = delta[k] + sign * length * slope.sign()
                    delta[k] = moved.clamp(-radius, radius)
            network.eval()
            with torch.no_grad():
                for k in range(new):
                    noise[batch[k]] = delta[k]
                    logits = network(middle((x[k] + delta[k]).clamp(0, 1), transform)[None])
                    total += float(functional.cross_entropy(logits, y[k : k + 1]))
        found.append(added(images, quantised(noise, options.rho_u.levels)))
        losses.append(total / count)
    best = min(range(options.restarts), key=lambda k: -sign * losses[k])
    return found[best], losses
