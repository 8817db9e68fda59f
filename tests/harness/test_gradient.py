"""Input gradients are autograd's and leave no trace; PGD keeps to its ball and box."""

import oracle_parts
import pytest
import torch
from helpers import make_harness, random_images
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from unlearnable_bench import Random
from unlearnable_bench.harness import batch_gradient, frozen, input_gradient, pgd


def batch(count: int = 6) -> tuple[nn.Module, Tensor, Tensor]:
    images = random_images(count)
    harness = make_harness()
    pixels, labels = harness.tensors(images)
    model = harness.network(images)
    for _ in range(3):  # running statistics that differ from a batch's own
        model(torch.rand(8, 3, 8, 8, dtype=torch.float64))
    return model, harness.unit(pixels), labels


def snapshot(model: nn.Module) -> dict[str, object]:
    return {
        "modes": [module.training for module in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone().tolist() for p in model.parameters()],
        "state": {name: value.tolist() for name, value in model.state_dict().items()},
    }


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_equals_autograd_in_eval_mode(*, soft: bool, training: bool) -> None:
    model, x, y = batch()
    if soft:
        y = torch.softmax(torch.randn(len(x), 3, dtype=torch.float64), 1)
    model.eval()
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(functional.cross_entropy(model(leaf), y) * len(x), leaf)
    model.train(training)
    torch.testing.assert_close(input_gradient(model, x, y), expected, rtol=1e-12, atol=1e-15)


def test_an_image_has_the_gradient_that_it_has_alone() -> None:
    model, x, y = batch()
    alone = [input_gradient(model, x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    torch.testing.assert_close(input_gradient(model, x, y), torch.cat(alone))


def test_works_where_gradients_are_switched_off() -> None:
    model, x, y = batch()
    expected = input_gradient(model, x, y)
    with torch.no_grad():
        torch.testing.assert_close(input_gradient(model, x, y), expected)
    assert not expected.requires_grad


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(*, training: bool) -> None:
    model, x, y = batch()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    model.train(training)
    before = snapshot(model)
    leaf = x.clone().requires_grad_()
    input_gradient(model, leaf, y)
    assert leaf.grad is None
    assert leaf.requires_grad
    assert snapshot(model) == before


def test_the_model_is_left_as_it_was_after_an_error() -> None:
    model, x, y = batch()
    next(model.parameters()).requires_grad_(False)
    before = snapshot(model)
    with pytest.raises(RuntimeError):
        input_gradient(model, x[:, :2], y)
    assert snapshot(model) == before


def test_a_layer_held_in_eval_mode_stays_so() -> None:
    model, x, y = batch()
    next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    before = snapshot(model)
    input_gradient(model, x, y)
    assert snapshot(model) == before


def test_a_frozen_model_is_in_eval_mode_and_takes_no_gradient() -> None:
    model, x, _ = batch()
    with frozen(model):
        assert not any(module.training for module in model.modules())
        assert not model(x).requires_grad


@pytest.mark.parametrize("largest", [1, 3, 100])
def test_the_gradient_of_a_batch_is_that_of_all_its_outputs(largest: int) -> None:
    """Also if the batch passes through the network in parts."""
    model, x, _ = batch()
    model.max_batch = largest  # type: ignore[assignment]
    before = snapshot(model)

    def loss(outputs: Tensor) -> Tensor:
        return (outputs @ outputs.T).logsumexp(1).sum()

    found = batch_gradient(model, x, loss)
    assert snapshot(model) == before
    model.eval()
    x = x.clone().requires_grad_()
    expected = torch.autograd.grad(loss(model(x)), x)[0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("largest", [2, 100])
def test_a_loss_of_targets_is_summed_over_images(largest: int) -> None:
    model, x, _ = batch()
    model.max_batch = largest  # type: ignore[assignment]
    targets = torch.linspace(-1, 1, len(x), dtype=x.dtype)[:, None]
    found = input_gradient(model, x, targets, lambda z, t: (z - t).square().sum())
    model.eval()
    x = x.clone().requires_grad_()
    expected = torch.autograd.grad((model(x) - targets).square().sum(), x)[0]
    torch.testing.assert_close(found, expected)


@given(
    seed=st.integers(0, 10**6),
    radius=st.fractions(0, 1, max_denominator=255),
    step=st.fractions(0, 1, max_denominator=255),
    steps=st.integers(0, 5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_pgd_stays_in_ball_and_box(
    seed: int, radius: float, step: float, steps: int, dtype: torch.dtype
) -> None:
    radius, step = float(radius), float(step)
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(2, 3, 4, 4, generator=generator, dtype=dtype) * 1.6 - 0.3).clamp(0, 1)

    def gradient(at: Tensor) -> Tensor:
        return torch.randn(at.shape, generator=generator, dtype=at.dtype)

    found = pgd(x, gradient, radius, step, steps, Random(seed, "start"))
    assert found.dtype == dtype
    assert found.min() >= 0
    assert found.max() <= 1
    # x - radius rounds: one unit in the last place may be in excess.
    assert (found - x).abs().max() <= radius + torch.finfo(dtype).eps


def test_pgd_starts_at_random_all_over_the_ball() -> None:
    x = torch.full((4, 3, 16, 16), 0.5, dtype=torch.float64)
    start = pgd(x, torch.zeros_like, 0.1, 0.02, 3, Random(0, "start")) - x
    assert start.min() < -0.099
    assert start.max() > 0.099
    assert abs(start.mean()) < 0.005


@pytest.mark.parametrize("radius", [2 / 255, 0.2])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_pgd_equals_the_transcription(radius: float, steps: int) -> None:
    model, x, y = batch()
    step = 2 * radius / max(steps, 1)
    found = pgd(x, lambda at: input_gradient(model, at, y), radius, step, steps, Random(0, "start"))
    start = oracle_parts.draw_uniform(tuple(x.shape), radius, Random(0, "start"))
    expected = oracle_parts.ascend(model, x, y, start, radius, steps)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def test_pgd_raises_the_loss_of_each_image() -> None:
    model, x, y = batch()
    found = pgd(x, lambda at: input_gradient(model, at, y), 0.1, 0.02, 10, Random(0, "start"))
    model.eval()
    before, after = (functional.cross_entropy(model(v), y, reduction="none") for v in (x, found))
    assert (after > before).all()
