"""NTGA equals its literal transcription and poisons every image within its budget."""

from pathlib import Path
from typing import Any

import attack_checks
import numpy as np
import pytest
import torch
from helpers import make_harness, random_images
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import ImageSet, Radius, UserError
from unlearnable_bench.attacks import ntga
from unlearnable_bench.attacks.ntga import NTGA
from unlearnable_bench.attacks.ntk import (
    NOBODY,
    Kernel,
    PartGradients,
    cnn_ntk,
    fnn_ntk,
    gradient_flow,
)

BASE: dict[str, Any] = {"block": 9, "validation": 5}  # 25 images: two blocks and 7 of a third


def patterned_images(count: int, classes: int = 3, seed: int = 0) -> ImageSet:
    """Return images that a kernel can learn: a faint pattern of the class under noise."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).uniform(-1, 1, (classes, 8, 8, 3))
    labels = random.integers(classes, size=count)
    values = 128 + 40 * patterns[labels] + 30 * random.normal(size=(count, 8, 8, 3))
    return ImageSet(np.clip(values, 0, 255).astype(np.uint8), labels.astype(np.int64), classes)


def unit(images: ImageSet) -> tuple[Tensor, Tensor]:
    x = torch.tensor(images.images).permute(0, 3, 1, 2).double() / 255
    return x, torch.tensor(images.labels)


def literal_loss(
    kernel: Kernel, block: Tensor, y: Tensor, x_val: Tensor, y_val: Tensor, options: NTGA
) -> Tensor:
    """One piece of autograd: an inverse and a matrix exponential in the place of eigenvectors."""
    classes = 3
    k = kernel(block, block)
    k = k + 1e-4 * k.diagonal().mean() * torch.eye(len(k)).double()
    grown = torch.eye(len(k)).double() - torch.linalg.matrix_exp(
        -k * options.t / (len(k) * classes)
    )
    outputs = kernel(x_val, block) @ torch.linalg.inv(k) @ grown @ torch.eye(classes)[y].double()
    return -(outputs.log_softmax(1) * torch.eye(classes)[y_val]).sum()


def literal(images: ImageSet, options: NTGA, seed: int) -> np.ndarray:
    x, y = unit(images)
    count, radius = len(x), float(options.rho_u)
    held = options.validation or count // 5
    order = make_harness(seed=seed).random("generation").permutation(count).tolist()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return fnn_ntk(a, b) if options.kernel == "fnn" else cnn_ntk(a, b, options.stride)

    poison, done = images.images.copy(), 0
    while done < count:
        block = order[done : done + options.block]
        fresh = len(block)
        while len(block) < options.block:
            block.insert(0, order[count - len(block) - 1])
        validation = order[:held]
        if set(validation) & set(block):
            validation = order[count - held :]
        assert not set(validation) & set(block)
        moved = x[block]
        for _ in range(options.steps):
            at = moved.clone().requires_grad_()
            loss = literal_loss(kernel, at, y[block], x[validation], y[validation], options)
            sign = torch.autograd.grad(loss, at)[0].sign()
            step = radius if options.steps == 1 else 1.1 * radius / options.steps
            moved = torch.minimum(moved + step * sign, x[block] + radius)
            moved = torch.maximum(moved, x[block] - radius).clamp(0, 1)
        for row, i in list(enumerate(block))[-fresh:]:
            image = (255 * moved[row]).round().permute(1, 2, 0)
            poison[i] = image.numpy().astype(np.uint8)
        done += fresh
    return poison


@pytest.mark.parametrize(
    ("changed", "seed"),
    [
        ({}, 0),
        ({}, 4),
        ({"kernel": "fnn"}, 0),
        ({"t": 8.0}, 0),
        ({"kernel": "fnn", "t": 4096.0}, 0),
        ({"rho_u": Radius("16/255")}, 0),
        ({"steps": 4}, 0),
        ({"steps": 4, "kernel": "fnn"}, 0),
        ({"stride": 3}, 0),
        ({"block": 5}, 0),
        ({"block": 13, "validation": None}, 0),
    ],
    ids=str,
)
def test_equals_the_transcription(changed: dict[str, Any], seed: int) -> None:
    attack, images = NTGA(**BASE | changed), random_images()
    poison = attack.generate(images, make_harness(seed=seed))
    expected = literal(images, attack, seed)
    # A gradient of rounding size has either sign.
    assert (poison.images == expected).mean() > 0.999
    attack_checks.check_budget(poison, images)


def test_an_image_that_fills_the_last_part_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    attack, images = NTGA(**BASE), random_images()  # five held-out images
    whole = attack.generate(images, make_harness())
    monkeypatch.setattr(ntga, "ROWS", 2)
    assert (attack.generate(images, make_harness()).images == whole.images).mean() > 0.999


@pytest.mark.parametrize("name", ["cnn", "fnn"])
@pytest.mark.parametrize("steps", [1, 5])
def test_raises_the_held_out_loss_more_than_random_signs(name: Any, steps: int) -> None:
    """Also on images that neither the attack nor the network has seen."""
    images, unseen = patterned_images(60), patterned_images(60, seed=1)
    attack = NTGA(block=30, validation=15, kernel=name, steps=steps)
    poison = attack.generate(images, make_harness()).images
    x_val, y_val = unit(unseen)
    kernel: Kernel = cnn_ntk if name == "cnn" else fnn_ntk

    def loss(pixels: np.ndarray) -> float:
        x, y = unit(ImageSet(pixels, images.labels, 3))
        outputs = kernel(x_val, x) @ gradient_flow(kernel(x, x), torch.eye(3)[y].double(), attack.t)
        return float(functional.cross_entropy(outputs, y_val))

    clean = loss(images.images)
    random = np.random.default_rng(0)
    signs = [random.choice((-8, 8), images.images.shape) for _ in range(3)]
    noisy = [loss(np.clip(images.images + s, 0, 255).astype(np.uint8)) for s in signs]
    assert clean < 1.0986  # below chance: there is something to learn
    assert loss(poison) - clean > 3 * max(abs(n - clean) for n in noisy)


@pytest.mark.parametrize(("count", "block"), [(25, 9), (25, 5), (25, 15), (24, 8), (7, 5)])
def test_every_image_is_poisoned_by_the_whole_radius(count: int, block: int) -> None:
    images = random_images(count)
    poison = NTGA(block=block, validation=1, kernel="fnn").generate(images, make_harness())
    inside = (images.images >= 8) & (images.images <= 247)
    change = np.abs(poison.images.astype(int) - images.images)
    assert (change[inside] == 8).mean() > 0.999
    assert (change.max((1, 2, 3)) == 8).all()


def test_an_image_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images that fill up the last block keep the noise of their own."""
    images = random_images()
    calls: list[int] = []

    def numbered(_self: NTGA, x: Tensor, *_: Any) -> Tensor:
        calls.append(len(x))
        return torch.full(x.shape, float(len(calls)))

    monkeypatch.setattr(NTGA, "_ascend", numbered)
    grey = ImageSet(np.full_like(images.images, 128), images.labels, 3)
    poison = NTGA(**BASE).generate(grey, make_harness())
    order = make_harness().random("generation").permutation(25).numpy()
    found = poison.images[order, 0, 0, 0].astype(int) - 128
    assert calls == [9, 9, 9]
    assert found.tolist() == [1] * 9 + [2] * 9 + [3] * 7


def test_no_block_is_held_against_its_own_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(61)

    def images_of(pixels: Tensor) -> set[tuple[int, ...]]:
        return {tuple(image.flatten().tolist()) for image in pixels}

    def disjoint(
        _self: NTGA,
        x: Tensor,
        _: Tensor,
        held_out: list[tuple[Tensor, Tensor]],
        _gradients: PartGradients,
    ) -> Tensor:
        assert len({part.shape for part, _ in held_out}) == 1
        against, labels = map(torch.cat, zip(*held_out, strict=True))
        assert (labels != NOBODY).sum() == len(images_of(against)) == validation
        assert not images_of(x) & images_of(against)
        return torch.zeros(x.shape)

    monkeypatch.setattr(NTGA, "_ascend", disjoint)
    monkeypatch.setattr(ntga, "ROWS", 8)
    for block, validation in ((1, 30), (21, 20), (59, 1), (7, 27), (20, 13)):
        NTGA(block=block, validation=validation).generate(images, make_harness())


def test_the_same_seed_gives_the_same_poison() -> None:
    attack_checks.check_same_seed_same_poison(NTGA(**BASE))


def test_the_precision_of_networks_has_no_influence() -> None:
    attack, images = NTGA(**BASE), random_images()
    single = attack.generate(images, make_harness("fp32")).images
    np.testing.assert_array_equal(single, attack.generate(images, make_harness("fp64")).images)


def test_resumes(tmp_path: Path) -> None:
    attack_checks.check_resumes(NTGA(**BASE), tmp_path, [("blocks", 1), ("blocks", 2)])


def test_a_block_larger_than_the_set_is_refused() -> None:
    with pytest.raises(UserError, match=r"ntga\.block=512 .* 522 .* has 25; lower"):
        NTGA().check(random_images())
    with pytest.raises(UserError, match=r"ntga\.validation"):
        NTGA(block=5, validation=11).check(random_images())
    NTGA(block=5, validation=10).check(random_images())


def test_no_noise_where_the_radius_is_0() -> None:
    images = random_images()
    poison = NTGA(**BASE, rho_u=Radius("0")).generate(images, make_harness())
    np.testing.assert_array_equal(poison.images, images.images)
