"""What the transcriptions in oracles.py are made of: views, ascent, SGD, rounding, by hand."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

from unlearnable_bench import ImageSet, Radius, Random, ResizedCrop, Transform


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


def colourful(count: int = 25, size: int = 8, seed: int = 0) -> ImageSet:
    """Return images whose pixels have three different values, so that hue has a derivative."""
    random = np.random.default_rng(seed)
    channels = random.permuted(np.tile([0, 60, 120], (count, size, size, 1)), axis=3)
    values = channels + random.integers(40, 90, (count, size, size, 3))
    return ImageSet(values.astype(np.uint8), random.integers(3, size=count), 3)


def turned(image: Tensor, shift: float) -> Tensor:
    """Return an image with another hue, as colorsys does it; torchvision's has no derivative."""
    r, g, _ = image
    v, low = image.max(0).values, image.min(0).values
    s, (rc, gc, bc) = (v - low) / v, (v - image) / (v - low)
    h = torch.where(r == v, bc - gc, torch.where(g == v, 2.0 + rc - bc, 4.0 + gc - rc))
    h = 6 * ((h / 6 + shift) % 1.0)
    part = h - h.floor()
    p, q, t = v * (1 - s), v * (1 - s * part), v * (1 - s * (1 - part))
    rows = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)]
    sectors = torch.stack([torch.stack(row) for row in rows])
    return sectors.gather(0, (h.floor().long() % 6).expand(1, *image.shape))[0]


def view_of_each(
    x: Tensor,
    strength: float,
    transform: Any,
    random: Random,
    *,
    area: float | None = None,
    alike: bool = False,
) -> Tensor:
    """Return A(x) by the recipe, image by image; `alike`: with one draw for all of them."""
    side, draws = x.shape[3], 1 if alike else len(x)
    area = max(1 - 0.9 * strength, 0.05) if area is None else area
    crop = ResizedCrop(crop=transform.view(side), flip=True, area=area)
    boxes = draw_boxes(draws, side, crop, random)
    change = random.uniform(4, draws, low=-1.0, high=1.0).double() * strength
    jitter, grey = random.uniform(2, draws).tolist()
    found = []
    for image, k in zip(x, [0] * len(x) if alike else range(len(x)), strict=True):
        top, left, height, width, flip, size = boxes[k]
        view = vision.resized_crop(image, top, left, height, width, [size, size], antialias=True)
        view = view.flip(2) if flip and transform.flip else view
        if jitter[k] < min(0.99, 0.8 * strength):
            b, c, s, h = change[:, k].tolist()
            view = vision.adjust_brightness(view, 1 + 0.4 * b)
            view = vision.adjust_contrast(view, 1 + 0.4 * c)
            view = vision.adjust_saturation(view, 1 + 0.4 * s)
            view = turned(view, 0.1 * h)
        if grey[k] < 0.2 * strength:
            view = vision.rgb_to_grayscale(view, 3)
        found.append(view)
    return torch.stack(found)


def discriminant(noise: Tensor, labels: list[int]) -> Tensor:
    """Return CSD of a batch: mean over i != j of (s_i + s_j + 1e-5) / (|c_i - c_j| + 1e-5)."""
    centres, spreads = [], []
    for label in sorted(set(labels)):
        own = torch.stack([n for n, y in zip(noise, labels, strict=True) if y == label])
        centre = own.mean(0)
        centres.append(centre)
        spreads.append(torch.stack([(n - centre).norm() for n in own]).mean().detach())
    terms = [
        (spreads[i] + spreads[j] + 1e-5) / ((centres[i] - centres[j]).norm() + 1e-5)
        for i in range(len(centres))
        for j in range(len(centres))
        if i != j
    ]
    return torch.stack(terms).mean() if terms else 0 * noise.sum()


def shifted_view(image: Tensor, dy: float, dx: float, mirror: bool) -> Tensor:
    """Sample each pixel at (i + dy, j + dx) of the mirrored image, bilinearly, black outside."""
    image = image.flip(2) if mirror else image
    size = image.shape[1]

    def at(i: int, j: int) -> Tensor:
        return image[:, i, j] if 0 <= i < size and 0 <= j < size else torch.zeros(3).double()

    rows = []
    for i in range(size):
        for j in range(size):
            top, left = math.floor(i + dy), math.floor(j + dx)
            down, right = i + dy - top, j + dx - left
            upper = (1 - right) * at(top, left) + right * at(top, left + 1)
            lower = (1 - right) * at(top + 1, left) + right * at(top + 1, left + 1)
            rows.append((1 - down) * upper + down * lower)
    return torch.stack(rows, 1).reshape(3, size, size)


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
    start: Tensor | None,
    radius: float,
    steps: int,
    length: Radius | None = None,
) -> Tensor:
    """PGD: steps of 2 radius / steps (or of a given length) up the sign of the gradient."""
    found = [*x]
    if start is not None:
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

    def step(
        self,
        x: Tensor,
        y: Tensor,
        lr: float,
        largest_norm: float | None = None,
        extra: Callable[[], Tensor] | None = None,
    ) -> None:
        self.network.train()
        weights = list(self.network.parameters())
        loss = functional.cross_entropy(self.network(x), y) + (extra() if extra else 0)
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


def late_stepped_lr(peak: float, step: int, steps: int) -> float:
    """A tenth from epoch 75 of 100 on, a hundredth from epoch 90 on."""
    if step * 100 >= 90 * steps:
        return peak / 100
    if step * 100 >= 75 * steps:
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
    return torch.from_numpy(values), torch.tensor(images.labels)


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
