"""Orthogonal projection equals its transcription and undoes a linear shortcut."""

import numpy as np
import pytest
import torch
from helpers import make_harness, random_images
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from torch.nn import functional

from unlearnable_bench import ImageSet, Random, UserError
from unlearnable_bench.defenses.orthogonal_projection import OrthogonalProjection, project
from unlearnable_bench.harness import ShuffledBatches

Floats = NDArray[np.float64]


def flat(images: ImageSet) -> Floats:
    """Return the values 0..255 of each image in the order channel, row, column."""
    return images.images.transpose(0, 3, 1, 2).reshape(len(images), -1).astype(np.float64)


def fitted(images: ImageSet, seed: int, steps: int, size: int, lr: float) -> Floats:
    """Train a linear layer by torch's own loss and optimizer."""
    x, y = torch.from_numpy(flat(images) / 255), torch.tensor(images.labels)
    values = x.shape[1]
    layer = torch.nn.Linear(values, images.classes, bias=False, dtype=torch.float64)
    stream = "orthogonal projection"
    start = Random(seed, stream).uniform(images.classes, values).double()
    with torch.no_grad():
        layer.weight.copy_((2 * start - 1) / values**0.5)
    batches = ShuffledBatches(len(images), size, seed, stream, torch.device("cpu"))
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    milestones = [-(-steps // 2), -(-3 * steps // 4)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    for k in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(layer(x[batches[k]]), y[batches[k]]).backward()
        optimizer.step()
        schedule.step()
    return layer.weight.detach().numpy()


def without_directions(values: Floats, weights: Floats) -> Floats:
    """Take the part along each direction away, one direction and one image at a time."""
    basis: list[Floats] = []
    for weight in weights:
        rest = weight / np.linalg.norm(weight)
        for _ in range(2):  # Gram-Schmidt, twice for accuracy
            for direction in basis:
                rest = rest - (rest @ direction) * direction
            rest = rest / np.linalg.norm(rest)
        basis.append(rest)
    projected = values.copy()
    for direction in basis:
        for i in range(len(projected)):
            projected[i] -= (projected[i] @ direction) * direction
    return projected


OPTIONS = [
    {"steps": 1},
    {"steps": 7, "batch_size": 8},
    {"steps": 8, "batch_size": 8, "lr": 0.3},
    {"steps": 20},
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_its_transcription(options: dict[str, float], seed: int) -> None:
    images = random_images(30, classes=4)
    before = images.digest()
    defense = OrthogonalProjection.configured(options, owner="orthogonal-projection")
    prepared = defense.prepare(images, make_harness(seed=seed))
    size, lr = int(options.get("batch_size", 1024)), options.get("lr", 0.1)
    weights = fitted(images, seed, int(options["steps"]), size, lr)
    projected = without_directions(flat(images), weights)
    assert (projected < -20).any()
    expected = np.clip(np.rint(projected), 0, 255)
    assert np.array_equal(flat(prepared), expected)
    assert prepared.images.dtype == np.uint8
    assert np.array_equal(prepared.labels, images.labels)
    assert prepared.classes == images.classes
    assert images.digest() == before


def test_the_fit_is_seeded() -> None:
    images = random_images(30, classes=4)
    defense = OrthogonalProjection(steps=3)
    first, again, other = (
        defense.prepare(images, make_harness("fp32", seed=seed)).digest() for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_single_precision_agrees() -> None:
    images = random_images(30, classes=4)
    single, double = (
        OrthogonalProjection(steps=20).prepare(images, make_harness(precision)).images.astype(int)
        for precision in ("fp32", "fp64")
    )
    assert np.abs(single - double).max() <= 1
    assert (single == double).mean() > 0.99


def test_nothing_is_left_along_the_directions() -> None:
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(80, 176, (40, 3, 8, 8)).astype(np.uint8))
    weights = torch.from_numpy(random.normal(size=(5, 192)))
    weights -= weights.mean(1, keepdim=True)  # so that nothing is clipped
    basis = np.linalg.qr(weights.numpy().T)[0]
    along_before = pixels.flatten(1).double().numpy() @ basis
    along = project(pixels, weights).flatten(1).double().numpy() @ basis
    # Rounding adds at most half a level to each value: a norm of sqrt(1/12) along a direction.
    assert along_before.std() > 20
    assert along.std() < 0.35
    assert abs(along.mean()) < 0.1


def test_undoes_a_linear_shortcut() -> None:
    """Each class has its own faint pattern; the images themselves tell nothing."""
    random = np.random.default_rng(0)
    classes, count, size = 4, 800, 8
    labels = random.integers(classes, size=count)
    blocks = random.integers(60, 196, (count, 4, 4, 3)).repeat(2, 1).repeat(2, 2)
    plain = blocks + 20 * random.normal(size=blocks.shape)
    patterns = 8 * random.choice([-1, 1], (classes, size, size, 3))

    def image_set(values: Floats) -> ImageSet:
        return ImageSet(values.clip(0, 255).astype(np.uint8), labels, classes)

    def accuracy(images: ImageSet) -> float:
        half, values = count // 2, flat(images)
        classifier = RidgeClassifier(1e5).fit(values[:half], labels[:half])
        return float(classifier.score(values[half:], labels[half:]))

    poisoned = image_set(plain + patterns[labels])
    prepared = OrthogonalProjection().prepare(poisoned, make_harness("fp32"))
    chance = 0.25 + 0.07  # and three standard deviations
    assert accuracy(image_set(plain)) < chance
    assert accuracy(poisoned) > 0.98
    assert accuracy(prepared) < chance
    assert flat(prepared).var(0).sum() > 0.9 * flat(poisoned).var(0).sum()


@pytest.mark.parametrize(("name", "value"), [("steps", "0"), ("batch_size", "0"), ("lr", "-0.1")])
def test_options_have_limits(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{name} must be at least"):
        OrthogonalProjection.configured({name: value}, owner="orthogonal-projection")


def test_the_schedule_is_20_epochs_of_cifar_10() -> None:
    defense = OrthogonalProjection()
    assert defense.steps == 20 * -(-50_000 // defense.batch_size)
    assert defense.lr == 0.1
