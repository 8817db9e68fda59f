"""Tangent kernels against neural-tangents, wide finite networks and slow loops."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, solve_ivp
from torch import Tensor
from torch.nn import functional

from unlearnable_bench.attacks import ntk
from unlearnable_bench.attacks.ntk import (
    Kernel,
    cnn_ntk,
    erf_moments,
    fnn_ntk,
    gradient_flow,
    held_out_gradient,
    relu_moments,
)

W, B = math.sqrt(1.76), math.sqrt(0.18)
BOTH = pytest.mark.parametrize("kernel", [cnn_ntk, fnn_ntk])


def pixels(count: int, size: int, seed: int = 0) -> Tensor:
    """Return smooth images with black and white areas, so that whole patches agree."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 3, 3, generator=random).double() * 1.6 - 0.3
    return functional.interpolate(coarse, size, mode="bilinear").clamp(0, 1)


def literal_conv(
    cov: np.ndarray, ntk: np.ndarray, stride: int, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """One convolution on maps [H, W] of two images, window by window."""
    size = len(cov)
    out = math.ceil(size / stride)
    zeros = max((out - 1) * stride + 5 - size, 0) // 2
    new_cov, new_ntk = np.zeros((out, out)), np.zeros((out, out))
    for row in range(out):
        for column in range(out):
            for i in range(5):
                for j in range(5):
                    r, c = row * stride - zeros + i, column * stride - zeros + j
                    if 0 <= r < size and 0 <= c < size:
                        new_cov[row, column] += 1.76 * cov[r, c] / (25 * channels)
                        new_ntk[row, column] += 1.76 * ntk[r, c] / (25 * channels)
            new_cov[row, column] += 0.18
            new_ntk[row, column] += new_cov[row, column]
    return new_cov, new_ntk


def literal_cnn(x1: np.ndarray, x2: np.ndarray, stride: int) -> float:
    pairs = {"11": (x1, x1), "22": (x2, x2), "12": (x1, x2)}
    maps = {name: ((a * b).sum(0), np.zeros(a.shape[1:])) for name, (a, b) in pairs.items()}
    for layer in range(2):
        maps = {n: literal_conv(*m, stride, 1 if layer else 3) for n, m in maps.items()}
        after = {}
        for name, (cov, tangent) in maps.items():
            new_cov, new_ntk = np.zeros_like(cov), np.zeros_like(tangent)
            for position in np.ndindex(cov.shape):
                norm = math.sqrt(maps[name[0] * 2][0][position] * maps[name[1] * 2][0][position])
                angle = math.acos(min(cov[position] / norm, 1.0))
                turned = math.pi - angle
                new_cov[position] = (
                    norm * (math.sin(angle) + turned * math.cos(angle)) / (2 * math.pi)
                )
                new_ntk[position] = tangent[position] * turned / (2 * math.pi)
            after[name] = (new_cov, new_ntk)
        maps = after
    cov, ntk = float(maps["12"][0].mean()), float(maps["12"][1].mean())
    for _ in range(3):
        cov = 1.76 * cov + 0.18
        ntk = cov + 1.76 * ntk
    return ntk


def literal_fnn(x1: np.ndarray, x2: np.ndarray) -> float:
    a, b = x1.ravel(), x2.ravel()
    q1, q2, k, ntk = a @ a / len(a), b @ b / len(b), a @ b / len(a), 0.0
    for _ in range(5):
        q1, q2, k = (1.76 * q + 0.18 for q in (q1, q2, k))
        ntk = k + 1.76 * ntk
        scale = (1 + 2 * q1) * (1 + 2 * q2)
        ntk *= 4 / math.pi / math.sqrt(scale - 4 * k * k)
        k = 2 / math.pi * math.asin(2 * k / math.sqrt(scale))
        q1, q2 = (2 / math.pi * math.asin(2 * q / (1 + 2 * q)) for q in (q1, q2))
    return ntk


@pytest.mark.parametrize(("size", "stride"), [(8, 2), (7, 2), (9, 3), (6, 1), (16, 2)])
def test_the_cnn_kernel_equals_its_transcription(size: int, stride: int) -> None:
    x = pixels(4, size)
    found = cnn_ntk(x[:3], x[1:], stride)
    expected = [[literal_cnn(a.numpy(), b.numpy(), stride) for b in x[1:]] for a in x[:3]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_fnn_kernel_equals_its_transcription() -> None:
    x = pixels(4, 6)
    expected = [[literal_fnn(a.numpy(), b.numpy()) for b in x[1:]] for a in x[:3]]
    np.testing.assert_allclose(fnn_ntk(x[:3], x[1:]), expected, rtol=1e-12)


def finite_kernel(outputs: Callable[[Tensor], Tensor], weights: list[Tensor], x: Tensor) -> Tensor:
    """Tangent kernel of one finite network, the mean over its output units.

    By Hutchinson's estimate: the gradients of a random signed sum of the outputs.
    """
    found = outputs(x)
    signs = torch.randint(0, 2, found.shape[1:]).double() * 2 - 1
    rows = []
    for value in found @ signs:
        slopes = torch.autograd.grad(value, weights, retain_graph=True)
        rows.append(torch.cat([slope.flatten() for slope in slopes]))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.mT / found.shape[1]


def finite_fnn(x: Tensor, width: int) -> Tensor:
    fan = [x[0].numel(), *[width] * 5]
    weights = [torch.randn(n, m, dtype=torch.float64) for n, m in pairwise(fan)]
    biases = [torch.randn(width, dtype=torch.float64) for _ in range(5)]

    def outputs(x: Tensor) -> Tensor:
        h = x.flatten(1)
        for weight, bias in zip(weights, biases, strict=True):
            h = (W / math.sqrt(len(weight)) * h @ weight + B * bias).erf()
        return h

    parameters = [tensor.requires_grad_() for tensor in (*weights, *biases)]
    return finite_kernel(outputs, parameters, x)


def finite_cnn(x: Tensor, channels: int) -> Tensor:
    dense = [4 * channels, 256, 256, 256]  # 8 x 8 pixels become 2 x 2 positions
    shapes = [(channels, 3, 5, 5), (channels, channels, 5, 5)]
    shapes += [(m, n, 1, 1) for n, m in pairwise(dense)]
    weights = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    biases = [torch.randn(shape[0], dtype=torch.float64) for shape in shapes]

    def outputs(x: Tensor) -> Tensor:
        h = x
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            scaled = W / math.sqrt(weight[0].numel()) * weight
            if k < 2:
                h = functional.pad(h, (1, 2, 1, 2))
                h = functional.conv2d(h, scaled, B * bias, stride=2).relu()
            else:
                h = functional.linear(h.flatten(1), scaled.flatten(1), B * bias)
        return h

    parameters = [tensor.requires_grad_() for tensor in (*weights, *biases)]
    return finite_kernel(outputs, parameters, x)


@pytest.mark.parametrize(
    ("kernel", "finite", "width", "draws"),
    [(fnn_ntk, finite_fnn, 1024, 20), (cnn_ntk, finite_cnn, 192, 30)],
    ids=["fnn", "cnn"],
)
def test_agrees_with_wide_finite_networks(
    kernel: Kernel, finite: Callable[[Tensor, int], Tensor], width: int, draws: int
) -> None:
    torch.manual_seed(0)
    x = torch.cat([pixels(2, 8), torch.rand(1, 3, 8, 8).double()])
    mean = torch.stack([finite(x, width) for _ in range(draws)]).mean(0)
    # Of a finite width the kernel differs by about 1 / width, layer by layer.
    torch.testing.assert_close(mean, kernel(x, x), rtol=0.04, atol=0)


def expectation(
    function: Callable[[float], float], q1: float, q2: float, k: float, *, positive: bool
) -> float:
    """Integrate function(u) function(v) over normal (u, v), or over u, v > 0 alone."""
    a, b, c = math.sqrt(q1), k / math.sqrt(q1), math.sqrt(q2 - k * k / q1)

    def integrand(second: float, first: float) -> float:
        density = math.exp(-(first**2 + second**2) / 2) / (2 * math.pi)
        return density * function(a * first) * function(b * first + c * second)

    if positive:
        return float(dblquad(integrand, 0, 9, lambda u: max(-9, -b / c * u), 9)[0])
    return float(dblquad(integrand, -9, 9, -9, 9)[0])


@pytest.mark.parametrize(
    ("q1", "q2", "k"), [(1.0, 1.0, 0.3), (0.5, 2.0, -0.7), (1.5, 0.4, 0.75), (0.9, 0.7, 0.0)]
)
def test_moments_are_those_of_normal_variables(q1: float, q2: float, k: float) -> None:
    at = [torch.tensor(moment, dtype=torch.float64) for moment in (q1, q2, k)]
    ramp = expectation(lambda u: u, q1, q2, k, positive=True)
    step = expectation(lambda _: 1.0, q1, q2, k, positive=True)
    assert [float(moment) for moment in relu_moments(*at)] == pytest.approx([ramp, step], 1e-7)
    erf = expectation(math.erf, q1, q2, k, positive=False)
    bell = expectation(
        lambda u: 2 / math.sqrt(math.pi) * math.exp(-u * u), q1, q2, k, positive=False
    )
    assert [float(m) for m in erf_moments(*at)] == pytest.approx([erf, bell], 1e-7, 1e-12)


@pytest.mark.parametrize("q", [0.18, 1.0, 7.0])
def test_moments_of_a_variable_with_itself(q: float) -> None:
    at = torch.full((3,), q, dtype=torch.float64, requires_grad=True)
    value, slope = relu_moments(*at)
    assert (value.item(), slope.item()) == pytest.approx((q / 2, 0.5), 1e-12)
    # Of the covariance alone; the derivatives of the two variances vanish there.
    np.testing.assert_array_equal(torch.autograd.grad(value, at)[0], [0, 0, 0.5])


@BOTH
def test_is_symmetric_and_positive(kernel: Kernel) -> None:
    x = pixels(12, 8)
    found = kernel(x, x)
    torch.testing.assert_close(found, found.mT, rtol=1e-13, atol=0)
    assert torch.linalg.eigvalsh(found).min() > 0


def differences(function: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5) -> Tensor:
    slopes = torch.zeros_like(x)
    for position in np.ndindex(x.shape):
        moved = torch.zeros_like(x)
        moved[position] = step
        slopes[position] = (function(x + moved) - function(x - moved)) / (2 * step)
    return slopes


@BOTH
def test_the_gradient_equals_finite_differences(kernel: Kernel) -> None:
    """Also on the diagonal, and where two images agree in some patches or altogether."""
    x = pixels(3, 5)
    x[2] = x[1]
    x[0, :, :, :3] = x[1, :, :, :3]
    weights = torch.rand(3, 3, generator=torch.Generator().manual_seed(1)).double()

    def total(x: Tensor) -> Tensor:
        return (weights * kernel(x, x)).sum()

    at = x.clone().requires_grad_()
    slopes = torch.autograd.grad(total(at), at)[0]
    torch.testing.assert_close(slopes, differences(total, x), rtol=1e-3, atol=1e-4)


def test_the_diagonals_gradient_is_that_of_an_image_beside_itself() -> None:
    x = pixels(1, 6).requires_grad_()
    slopes = torch.autograd.grad(cnn_ntk(x, x).sum(), x)[0]
    expected = differences(lambda x: cnn_ntk(x, x).sum(), x.detach())
    torch.testing.assert_close(slopes, expected, rtol=1e-6, atol=1e-8)


def block_problem() -> tuple[Tensor, Tensor, Tensor]:
    """Return images, labels and one-hot labels; the first 6 are the block, two of them equal."""
    x, labels = pixels(9, 5), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1])
    x[5] = x[1]
    return x, labels, functional.one_hot(labels, 3).double()


@BOTH
@pytest.mark.parametrize("t", [0.0, 0.5, 64.0, 4096.0])
def test_the_prediction_equals_an_integrated_flow(kernel: Kernel, t: float) -> None:
    """df/dt of every output is -K (f - Y) / (N C) on the block; K is regularised there."""
    x, _, targets = block_problem()
    inner, outer = kernel(x[:6], x[:6]), kernel(x[6:], x[:6])
    y = targets[:6].numpy()
    k = inner.numpy() + 1e-4 * np.trace(inner.numpy()) / 6 * np.eye(6)
    both = np.concatenate([k, outer.numpy()])

    def flow(_: float, f: np.ndarray) -> np.ndarray:
        return -(both @ (f.reshape(9, 3)[:6] - y) / 18).ravel()

    solved = solve_ivp(flow, (0, t), np.zeros(27), method="LSODA", rtol=1e-9, atol=1e-11)
    expected = solved.y[:, -1].reshape(9, 3)[6:]
    found = outer @ gradient_flow(inner, targets[:6], t)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("t", [1e9, 1e300])
def test_long_training_ends_in_kernel_regression(t: float) -> None:
    x, _, targets = block_problem()
    inner = cnn_ntk(x[:6], x[:6])
    regularised = inner.numpy() + 1e-4 * np.trace(inner.numpy()) / 6 * np.eye(6)
    solved = np.linalg.solve(regularised, targets[:6].numpy())
    np.testing.assert_allclose(gradient_flow(inner, targets[:6], t), solved, rtol=1e-6, atol=1e-6)


@BOTH
@pytest.mark.parametrize("t", [8.0, 4096.0])
def test_the_held_out_gradient_equals_finite_differences(kernel: Kernel, t: float) -> None:
    x, labels, targets = block_problem()

    def loss(block: Tensor) -> Tensor:
        outputs = kernel(x[6:], block) @ gradient_flow(kernel(block, block), targets[:6], t)
        return functional.cross_entropy(outputs, labels[6:], reduction="sum")

    found = held_out_gradient(kernel, x[:6], targets[:6], [(x[6:], labels[6:])], t)
    torch.testing.assert_close(found, differences(loss, x[:6]), rtol=1e-3, atol=1e-6)


def test_parts_of_the_kernel_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels, targets = block_problem()
    held_out = [(x[6:8], labels[6:8]), (x[8:], labels[8:])]
    whole = held_out_gradient(cnn_ntk, x[:6], targets[:6], [(x[6:], labels[6:])], 64.0)
    monkeypatch.setattr(ntk, "ROWS", 4)
    parts = held_out_gradient(cnn_ntk, x[:6], targets[:6], held_out, 64.0)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-14)


@BOTH
@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_plain_and_equal_images_have_finite_gradients(kernel: Kernel, size: int) -> None:
    x = torch.zeros(6, 3, size, size).double()
    x[1], x[2:4], x[4] = 1, 0.5, pixels(1, size)
    targets = torch.eye(2).double()[[0, 1, 0, 1, 1, 0]]
    found = held_out_gradient(kernel, x, targets, [(x[2:], torch.tensor([1, 0, 0, 1]))], 64.0)
    assert found.isfinite().all()
    assert (found[4] != 0).all()


# Printed by neural-tangents 0.6.5 (jax 0.4.30, float64): its stax kernels of the networks of the
# NTGA code, gradient_descent_mse and JAX's gradient. Two held-out images against a block of three.
REFERENCE = {
    "cnn": {
        "outer": [
            [6.565358355456, 6.426031711099, 6.444872163929],
            [6.234013418725, 6.073682489217, 6.175496250466],
        ],
        "outputs": [[0.608369854457, 0.383496779227], [0.636122443093, 0.307502980573]],
        "gradient": [-0.007576145803, 0.011474212223, -0.005926327600],
        "size": 3.541045170782,
    },
    "fnn": {
        "outer": [
            [1.812434135747, 1.863115405119, 1.840225930853],
            [1.628286472382, 1.607601782250, 1.726331046714],
        ],
        "outputs": [[0.525650161088, 0.344222387094], [0.534240669816, 0.248247689850]],
        "gradient": [-0.006136736935, 0.008286013625, -0.004964403699],
        "size": 3.260339610916,
    },
}


@BOTH
def test_agrees_with_neural_tangents(kernel: Kernel) -> None:
    image, channel, row, column = np.ogrid[:5, :3, :6, :6]
    levels = (37 * image + 11 * channel + 7 * row + 5 * column) ** 2 % 101
    x = torch.from_numpy(levels / 100)
    labels = torch.tensor([0, 1, 0, 1, 0])
    targets = functional.one_hot(labels).double()
    expected = REFERENCE[kernel.__name__.removesuffix("_ntk")]
    outer = kernel(x[3:], x[:3])
    outputs = outer @ gradient_flow(kernel(x[:3], x[:3]), targets[:3], 64.0)
    gradient = held_out_gradient(kernel, x[:3], targets[:3], [(x[3:], labels[3:])], 64.0)
    np.testing.assert_allclose(outer, expected["outer"], rtol=1e-11)
    np.testing.assert_allclose(outputs, expected["outputs"], rtol=1e-8)
    np.testing.assert_allclose(gradient[:, 1, 2, 3], expected["gradient"], rtol=1e-7)
    np.testing.assert_allclose(gradient.abs().sum(), expected["size"], rtol=1e-7)
