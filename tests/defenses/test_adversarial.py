"""FGSM, L2 PGD, TRADES and MART equal literal transcriptions and leave no trace in the model."""

import copy
import math
from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction

import oracle_parts
import pytest
import torch
from helpers import Tiny, make_harness, random_images
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Defense, Radius, Random, UserError
from unlearnable_bench.defenses import fgsm, pgd_l2, trades
from unlearnable_bench.defenses.fgsm import FGSM
from unlearnable_bench.defenses.mart import MART
from unlearnable_bench.defenses.none import NoDefense
from unlearnable_bench.defenses.pgd_l2 import PGDL2
from unlearnable_bench.defenses.trades import TRADES
from unlearnable_bench.running.training import train
from unlearnable_bench.schedule import Training

CLASSES, COUNT = 4, 6
DEFENSES = [FGSM(), PGDL2(), TRADES(), MART()]
RADIUS = {PGDL2: Radius("128/255")}


def radius_of(defense: Defense) -> Radius:
    return RADIUS.get(type(defense), Radius("8/255"))


@pytest.fixture(name="model")
def network() -> Iterator[nn.Module]:
    torch.manual_seed(0)
    model = Tiny().build(CLASSES, 8).double()
    for _ in range(3):  # running statistics that differ from a batch's own
        model(torch.rand(COUNT, 3, 8, 8, dtype=torch.float64))
    return model.train()


def batch() -> tuple[Tensor, Tensor]:
    images = random_images(COUNT, classes=CLASSES)
    pixels, labels = make_harness().tensors(images)
    return pixels.double() / 255, functional.one_hot(labels, CLASSES).double()


def smoothed(y: Tensor) -> Tensor:
    return 0.8 * y + 0.2 / CLASSES


def mixed(y: Tensor) -> Tensor:
    return 0.7 * y + 0.3 * y.roll(1, 0)


TARGETS = {"hard": lambda y: y, "smoothed": smoothed, "mixed": mixed}


def snapshot(model: nn.Module) -> dict[str, object]:
    return {
        "modes": [module.training for module in model.modules()],
        "takes": [(p.requires_grad, p.grad is None) for p in model.parameters()],
        "state": {name: value.tolist() for name, value in model.state_dict().items()},
    }


# The inner maximisations.


def softmax(logits: Tensor) -> list[Tensor]:
    powers = [torch.exp(z - logits.max()) for z in logits]
    return [power / sum(powers) for power in powers]


def kl(p: list[Tensor], q: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for a, b in zip(p, q, strict=True):
        total = total + a * (torch.log(a) - torch.log(b))
    return total


def length(image: Tensor) -> float:
    return math.sqrt(sum(v * v for v in image.flatten().tolist()))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.25, 2.0])
def test_fgsm_equals_its_transcription(model: nn.Module, alpha: float) -> None:
    x, y = batch()
    rho = 8 / 255
    got = FGSM(alpha=alpha).perturb(model, x, y, Radius("8/255"), 7, Random(1, "training"))
    start = oracle_parts.draw_uniform(tuple(x.shape), rho, Random(1, "training"))
    for i in range(COUNT):
        found = oracle_parts.into_ball_and_box(x[i] + start[i], x[i], rho)
        slope = oracle_parts.slope_at(model, found[None], y[i : i + 1])[0]
        expected = oracle_parts.into_ball_and_box(found + alpha * rho * slope.sign(), x[i], rho)
        torch.testing.assert_close(got[i], expected, rtol=0, atol=1e-15)


def test_the_step_of_fgsm_is_five_fourths_of_the_radius() -> None:
    assert FGSM().alpha == 1.25


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("rho_a", ["8/255", "128/255", "1/1"])
def test_l2_pgd_equals_its_transcription(model: nn.Module, rho_a: str, steps: int) -> None:
    x, y = batch()
    rho = float(Fraction(rho_a))
    got = PGDL2().perturb(model, x, y, Radius(rho_a), steps, Random(1, "training"))
    random = Random(1, "training")
    start, share = random.normal(*x.shape).double(), random.uniform(COUNT, high=rho).double()
    for i in range(COUNT):
        found = (x[i] + float(share[i]) * start[i] / length(start[i])).clamp(0, 1)
        for _ in range(steps):
            slope = oracle_parts.slope_at(model, found[None], y[i : i + 1])[0]
            change = found + 2 * rho / steps * slope / length(slope) - x[i]
            if length(change) > rho:
                change = change * (rho / length(change))
            found = (x[i] + change).clamp(0, 1)
        torch.testing.assert_close(got[i], found, rtol=0, atol=1e-12)


@given(seed=st.integers(0, 10**6), numerator=st.integers(1, 255), steps=st.integers(1, 4))
def test_l2_pgd_stays_in_ball_and_box(seed: int, numerator: int, steps: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(3, 3, 4, 4, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    y = functional.one_hot(torch.arange(3), 3).float()
    linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    radius = Radius(f"{numerator}/255")
    found = PGDL2().perturb(linear, x, y, radius, steps, Random(seed, "training"))
    assert found.min() >= 0
    assert found.max() <= 1
    assert max(length(change) for change in found - x) <= float(radius) * (1 + 1e-5)


def test_without_a_slope_l2_pgd_stays_at_its_start() -> None:
    x, y = torch.full((4000, 3, 2, 2), 0.5), torch.full((4000, 2), 0.5)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    nn.init.zeros_(flat[1].weight)
    start = PGDL2().perturb(flat, x, y, Radius("51/255"), 3, Random(0, "training")) - x
    norms = start.flatten(1).norm(dim=1)
    # Uniform in norm, and in direction: one coordinate of the unit sphere of 12 dimensions.
    assert stats.kstest(norms.numpy(), stats.uniform(0, 0.2).cdf).pvalue > 0.01
    for coordinate in (0, 11):
        one = (start.flatten(1)[:, coordinate] / norms).numpy()
        assert stats.kstest((one + 1) / 2, stats.beta(5.5, 5.5).cdf).pvalue > 0.01


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("rho", ["0.1/255", "8/255", "60/255"])
def test_the_ascent_of_trades_equals_its_transcription(
    model: nn.Module, rho: str, steps: int
) -> None:
    x, y = batch()
    radius = Radius(rho)
    got = TRADES().perturb(model, x, y, radius, steps, Random(1, "training"))
    other_target = TRADES().perturb(model, x, mixed(y), radius, steps, Random(1, "training"))
    assert torch.equal(got, other_target)
    start = 0.001 * Random(1, "training").normal(*x.shape).double()
    model.eval()
    for i in range(COUNT):
        found = x[i] + start[i]
        for _ in range(steps):
            at = found.clone().requires_grad_()
            divergence = kl(softmax(model(x[i][None])[0].detach()), softmax(model(at[None])[0]))
            slope = torch.autograd.grad(divergence, at)[0]
            moved = found + 2 * float(radius) / steps * slope.sign()
            found = oracle_parts.into_ball_and_box(moved, x[i], float(radius))
        torch.testing.assert_close(got[i], found, rtol=0, atol=1e-15)


def test_mart_ascends_as_ordinary_adversarial_training(model: nn.Module) -> None:
    x, y = batch()
    got, expected = (
        defense.perturb(model, x, y, Radius("8/255"), 3, Random(1, "training"))
        for defense in (MART(), NoDefense())
    )
    assert torch.equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("defense", DEFENSES, ids=repr)
def test_the_ascent_leaves_no_trace(model: nn.Module, defense: Defense, dtype: torch.dtype) -> None:
    x, y = (t.to(dtype) for t in batch())
    model.to(dtype)
    radius, before, x_before = radius_of(defense), snapshot(model), x.clone()
    leaf = x.clone().requires_grad_()
    found = defense.perturb(model, leaf, y, radius, 2, Random(1, "training"))
    assert snapshot(model) == before
    assert not found.requires_grad
    assert leaf.grad is None
    assert torch.equal(leaf.detach(), x_before)
    assert found.dtype == dtype
    assert found.min() >= 0
    assert found.max() <= 1
    again = defense.perturb(model, x, y, radius, 2, Random(1, "training"))
    other = defense.perturb(model, x, y, radius, 2, Random(2, "training"))
    assert torch.equal(found, again)
    assert not torch.equal(found, other)


# The losses.


def check_same(got: Tensor, model: nn.Module, expected: Tensor, literal: nn.Module) -> None:
    """Compare value, slopes and the statistics that the passes left."""
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(model.state_dict(), literal.state_dict())
    slopes, expected_slopes = (
        torch.autograd.grad(loss, list(network.parameters()))
        for loss, network in ((got, model), (expected, literal))
    )
    torch.testing.assert_close(slopes, expected_slopes, rtol=1e-8, atol=1e-12)


def apart(x: Tensor) -> Tensor:
    return (x + Random(3, "apart").uniform(*x.shape, low=-0.1, high=0.1)).clamp(0, 1)


def probabilities(
    model: nn.Module, x: Tensor, z: Tensor
) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Softmax of both passes for each image; one pass for each of the two batches."""
    return [(softmax(a), softmax(b)) for a, b in zip(model(x), model(z), strict=True)]


def cross_entropy(p: list[Tensor], y: Tensor) -> Tensor:
    return torch.stack([-y[c] * torch.log(p[c]) for c in range(CLASSES)]).sum()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_the_loss_of_trades_equals_its_transcription(
    model: nn.Module, beta: float, target: str
) -> None:
    x, y = batch()
    z, y = apart(x), TARGETS[target](y)
    literal = copy.deepcopy(model)
    got = TRADES(beta=beta).loss(model, x, z, y)
    pairs = probabilities(literal, x, z)
    total = torch.zeros((), dtype=torch.float64)
    for (p, q), wanted in zip(pairs, y, strict=True):
        total = total + cross_entropy(p, wanted) + beta * kl(p, q)
    check_same(got, model, total / COUNT, literal)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("beta", [0.0, 1.0, 5.0])
def test_the_loss_of_mart_equals_its_transcription(
    model: nn.Module, beta: float, target: str
) -> None:
    x, y = batch()
    z, y = apart(x), TARGETS[target](y)
    literal = copy.deepcopy(model)
    got = MART(beta=beta).loss(model, x, z, y)
    pairs = probabilities(literal, x, z)
    total = torch.zeros((), dtype=torch.float64)
    wrong = 0
    for (p, q), wanted in zip(pairs, y, strict=True):
        scores = [float(value.detach()) for value in q]
        label = max(range(CLASSES), key=wanted.tolist().__getitem__)
        other = max({*range(CLASSES)} - {label}, key=scores.__getitem__)
        wrong += scores[other] > scores[label]
        boosted = cross_entropy(q, wanted) - torch.log(1.0001 - q[other])
        total = total + boosted + beta * kl(p, q) * (1 - p[label])
    assert 0 < wrong < COUNT
    check_same(got, model, total / COUNT, literal)


@pytest.mark.parametrize("defense", [TRADES(), MART()], ids=repr)
def test_a_certain_mistake_has_a_finite_loss(defense: Defense) -> None:
    x = torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]]).requires_grad_()
    y = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    loss = defense.loss(nn.Identity(), x, x + 1.0, y)
    loss.backward()
    assert loss.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("defense", [FGSM(), PGDL2()], ids=repr)
def test_the_others_train_on_the_perturbed_images_alone(model: nn.Module, defense: Defense) -> None:
    x, y = batch()
    z = apart(x)
    assert torch.equal(defense.loss(model, x, z, y), functional.cross_entropy(model(z), y))


@pytest.mark.parametrize(
    ("defense", "passes"), [*zip(DEFENSES, [1, 1, 2, 2], strict=True)], ids=repr
)
def test_statistics_move_with_the_training_passes_alone(
    model: nn.Module, defense: Defense, passes: int
) -> None:
    x, y = batch()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    before = int(norm.num_batches_tracked)
    found = defense.perturb(model, x, y, radius_of(defense), 3, Random(0, "training"))
    assert int(norm.num_batches_tracked) == before
    defense.loss(model, x, found, y).backward()
    assert int(norm.num_batches_tracked) == before + passes


# With rho_a = 0, and as part of a training.


@pytest.mark.parametrize("defense", DEFENSES, ids=repr)
def test_radius_0_is_ordinary_training(defense: Defense) -> None:
    images, test = random_images(20), random_images(5, seed=1)
    training = Training(batch_size=6, steps=4, pgd_steps=2)
    models = [
        train(images, test, chosen, Radius("0"), training, make_harness()).model
        for chosen in (defense, NoDefense())
    ]
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("defense", DEFENSES, ids=repr)
def test_nothing_depends_on_a_value_on_the_host(
    defense: Defense, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler refuses `.item()`, branches on values and shapes that depend on them."""
    x, y = (t.float() for t in batch())
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    radius = radius_of(defense)

    def slope(_: nn.Module, at: Tensor, targets: Tensor) -> Tensor:
        return (at - 0.4) * targets.amax(1)[:, None, None, None]

    # The harness's own gradient and way to hold a model still are no concern of a defense.
    for module in (fgsm, pgd_l2, trades):
        monkeypatch.setattr(module, "input_gradient", slope)
    monkeypatch.setattr("unlearnable_bench.harness.input_gradient", slope)
    monkeypatch.setattr(trades, "frozen", lambda _: nullcontext())

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        found = defense.perturb(model, x, y, radius, 3, random)
        return found, defense.loss(model, x, found, y)

    def ordinary(x: Tensor, y: Tensor) -> Tensor:
        return defense.loss(model, x, x, y)

    torch._dynamo.reset()
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    for draws in (4, 9):  # the first call and one that must not be that call again
        random = Random(3, "training")
        random.draws += draws
        expected = step(x, y)
        random = Random(3, "training")
        random.draws += draws
        torch.testing.assert_close(compiled(x, y), expected)
    compiled_ordinary = torch.compile(ordinary, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled_ordinary(x, y), ordinary(x, y))


@pytest.mark.parametrize(
    ("defense", "name", "default"),
    [(FGSM, "alpha", 1.25), (TRADES, "beta", 6.0), (MART, "beta", 5.0)],
)
def test_options(defense: type[Defense], name: str, default: float) -> None:
    assert getattr(defense(), name) == default
    with pytest.raises(UserError, match=f"{name} must be at least 0, got -1.0"):
        defense.configured({name: "-1"}, owner="defense")
