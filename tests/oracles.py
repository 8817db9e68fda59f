"""Slow, literal transcriptions of the methods, for the fast code to be compared with.

Written from the descriptions of the algorithms, in float64, one image, one EOT
sample and one step after the other. They share with the package nothing but its
random numbers, drawn in the same order, and the network that they start from.
Gradients of the cross-entropy are autograd's; everything around them is by hand.
"""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

from unlearnable_bench import ImageSet, Radius, Random, ResizedCrop, Transform
from unlearnable_bench.harness import ShuffledBatches


class View(NamedTuple):
    """One draw of t: mirror, then cut a window of the image's size out of a black border."""

    dy: int
    dx: int
    flip: bool

    def of(self, image: Tensor) -> Tensor:
        channels, height, width = image.shape
        if self.flip:
            image = image.flip(2)
        pad = max(abs(self.dy), abs(self.dx))
        canvas = torch.zeros(channels, height + 2 * pad, width + 2 * pad, dtype=image.dtype)
        canvas[:, pad : pad + height, pad : pad + width] = image
        top, left = pad + self.dy, pad + self.dx
        return canvas[:, top : top + height, left : left + width].clone()

    def adjoint(self, slope: Tensor, _image: Tensor) -> Tensor:
        """Carry each value of a gradient back to the pixel that it was read from."""
        _, height, width = slope.shape
        back = torch.zeros_like(slope)
        for i in range(height):
            for j in range(width):
                row, column = i + self.dy, j + self.dx
                if 0 <= row < height and 0 <= column < width:
                    source = width - 1 - column if self.flip else column
                    back[:, row, source] += slope[:, i, j]
        return back


class Box(NamedTuple):
    """One draw of ImageNet's t: a box of the image, scaled to `size`, then mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool
    size: int

    def of(self, image: Tensor) -> Tensor:
        rows, columns = self.shares(image)
        return torch.einsum("ip,cpq,jq->cij", rows, image, columns)

    def adjoint(self, slope: Tensor, image: Tensor) -> Tensor:
        rows, columns = self.shares(image)
        return torch.einsum("ip,cij,jq->cpq", rows, slope, columns)

    def shares(self, image: Tensor) -> tuple[Tensor, Tensor]:
        _, height, width = image.shape
        rows = torch.zeros(self.size, height, dtype=torch.float64)
        columns = torch.zeros(self.size, width, dtype=torch.float64)
        for i in range(self.size):
            for p, share in self.triangle(i, self.height):
                rows[i, self.top + p] = share
            place = self.size - 1 - i if self.flip else i
            for p, share in self.triangle(i, self.width):
                columns[place, self.left + p] = share
        return rows, columns

    def triangle(self, place: int, length: int) -> list[tuple[int, float]]:
        """Shares of the box's pixels in one place of the result, in exact fractions."""
        scale = Fraction(length, self.size)
        centre, reach = scale * (place + Fraction(1, 2)), max(scale, Fraction(1))
        weights = [
            max(Fraction(0), 1 - abs(p + Fraction(1, 2) - centre) / reach) for p in range(length)
        ]
        return [(p, float(weight / sum(weights))) for p, weight in enumerate(weights)]


def draw_boxes(count: int, side: int, transform: ResizedCrop, random: Random) -> list[Box]:
    bound = math.log(4 / 3)
    areas = random.uniform(10, count, low=transform.area, high=1.0).tolist()
    ratios = random.uniform(10, count, low=-bound, high=bound).tolist()
    places = random.uniform(2, count).tolist()
    flip = random.integers(2, count).tolist() if transform.flip else [0] * count
    boxes = []
    for k in range(count):
        height = width = side  # where none of the ten fits
        for draw in range(10):
            area, ratio = areas[draw][k] * side**2, math.exp(ratios[draw][k])
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= side and 0 < h <= side:
                height, width = h, w
                break
        top = math.floor(places[0][k] * (side - height + 1))
        left = math.floor(places[1][k] * (side - width + 1))
        boxes.append(Box(top, left, height, width, flip[k] == 1, transform.crop))
    return boxes


def draw_views(
    count: int, transform: Transform | ResizedCrop, random: Random, side: int = 8
) -> list[Any]:
    if isinstance(transform, ResizedCrop):
        return draw_boxes(count, side, transform, random)
    span = 2 * transform.pad + 1
    dy = random.integers(span, count).tolist()
    dx = random.integers(span, count).tolist()
    flip = random.integers(2, count).tolist() if transform.flip else [0] * count
    return [View(dy[i] - transform.pad, dx[i] - transform.pad, flip[i] == 1) for i in range(count)]


def draw_uniform(shape: tuple[int, ...], radius: float, random: Random) -> Tensor:
    return random.uniform(*shape, low=-radius, high=radius).double()


def slope_at(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of the cross-entropy with respect to the images, in eval mode."""
    network.eval()
    x = x.clone().requires_grad_()
    return torch.autograd.grad(functional.cross_entropy(network(x), y, reduction="sum"), x)[0]


def clamp_slope(value: Tensor) -> Tensor:
    """Derivative of the clamp to [0, 1]: 1 inside and on the bounds, 0 outside."""
    return ((value >= 0) & (value <= 1)).double()


def into_ball_and_box(moved: Tensor, centre: Tensor, radius: float) -> Tensor:
    moved = torch.minimum(moved, centre + radius)
    moved = torch.maximum(moved, centre - radius)
    return moved.clamp(0, 1)


def length_of(given: Radius | None, usual: float) -> float:
    return usual if given is None else float(given)


def ascend(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    radius: float,
    steps: int,
    length: Radius | None = None,
) -> Tensor:
    """PGD: steps of 2 radius / steps (or of a given length) up the sign of the gradient."""
    found = [into_ball_and_box(x[i] + start[i], x[i], radius) for i in range(len(x))]
    for _ in range(steps):
        slopes = slope_at(network, torch.stack(found), y)
        for i in range(len(x)):
            moved = found[i] + length_of(length, 2 * radius / steps) * slopes[i].sign()
            found[i] = into_ball_and_box(moved, x[i], radius)
    return torch.stack(found)


def middle(image: Tensor, transform: Transform | ResizedCrop) -> Tensor:
    """What a network sees of an image outside training."""
    if isinstance(transform, Transform):
        return image
    return vision.center_crop(image, [transform.crop, transform.crop])


class SGD:
    """v = mu v + (g + wd w); w = w - lr v, or with Nesterov w - lr ((g + wd w) + mu v)."""

    def __init__(
        self,
        network: nn.Module,
        momentum: float = 0.9,
        decay: float = 5e-4,
        *,
        nesterov: bool = False,
    ) -> None:
        self.network, self.momentum, self.decay, self.nesterov = network, momentum, decay, nesterov
        self.velocities = [torch.zeros_like(w) for w in network.parameters()]

    def step(self, x: Tensor, y: Tensor, lr: float, largest_norm: float | None = None) -> None:
        self.network.train()
        weights = list(self.network.parameters())
        loss = functional.cross_entropy(self.network(x), y)
        slopes = list(torch.autograd.grad(loss, weights))
        if largest_norm is not None:
            norm = float(sum((g**2).sum() for g in slopes)) ** 0.5
            if norm + 1e-6 > largest_norm:  # torch's safeguard against a division by 0
                slopes = [g * (largest_norm / (norm + 1e-6)) for g in slopes]
        lr = float(np.float32(lr))  # the optimizer holds it as a float32 tensor
        with torch.no_grad():
            for w, g, v in zip(weights, slopes, self.velocities, strict=True):
                decayed = g + self.decay * w
                v.copy_(self.momentum * v + decayed)
                w.sub_(lr * (decayed + self.momentum * v if self.nesterov else v))


def stepped_lr(peak: float, step: int, steps: int) -> float:
    """A tenth from 2000 of 5000 steps on, a hundredth from 4000 on."""
    if step * 5000 >= 4000 * steps:
        return peak / 100
    if step * 5000 >= 2000 * steps:
        return peak / 10
    return peak


def triangular_lr(peak: float, step: int, steps: int) -> float:
    """Up to the peak over the first fifth of the steps, then down, to 0 after the last."""
    if step < steps / 5:
        return peak * (step + 1) / (steps / 5)
    return peak * (steps - step) / (steps - steps / 5)


def pixels_of(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Return float64 values 0..255 [N, 3, H, W] and the labels."""
    values = np.ascontiguousarray(images.images.transpose(0, 3, 1, 2)).astype(np.float64)
    return torch.from_numpy(values), torch.from_numpy(images.labels)


def quantised(delta: Tensor, levels: int) -> Tensor:
    """Return the nearest whole number of 255ths, at most `levels` of them."""
    values = [max(-levels, min(levels, round(255 * v))) for v in delta.flatten().tolist()]
    return torch.tensor(values, dtype=torch.float64).reshape(delta.shape)


def added(images: ImageSet, levels: Tensor) -> np.ndarray:
    """Return the 8-bit images with noise of whole levels added, clipped to 0..255."""
    poisoned = images.images.copy()
    for i in range(len(images)):
        noise = levels[i].numpy().transpose(1, 2, 0)
        poisoned[i] = np.clip(images.images[i] + noise, 0, 255).astype(np.uint8)
    return poisoned


def windows(count: int, size: int) -> list[tuple[list[int], int]]:
    """Return consecutive batches, and how many of each are new: the last borrows from the first."""
    return [
        ([k % count for k in range(start, start + size)], min(size, count - start))
        for start in range(0, count, size)
    ]


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
    """One noise a class: the mean over its members in each batch of a random fifth."""
    pixels, labels = pixels_of(images)
    count, radius = len(images), float(options.rho_u)
    size = min(options.batch_size or 512, count)
    optimizer = SGD(network)
    eta = torch.zeros_like(pixels[: images.classes])
    step = length_of(options.alpha_u, radius / 10)
    subset = Random(seed, "subset").permutation(count).tolist()[: count // 5]
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


def _robust(  # noqa: C901 - in one piece, to be read beside the paper
    network: nn.Module,
    images: ImageSet,
    transform: Transform | ResizedCrop,
    seed: int,
    options: Any,
    perturbation: str,
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
        optimizer.step(x, labels[batch], stepped_lr(options.lr, step, options.steps))
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
    schedule = stepped_lr if training.schedule == "steps" else triangular_lr
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
                    length = length_of(options.alpha_u, 2 * radius / options.steps)
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
