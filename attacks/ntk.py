"""Neural tangent kernels in closed form, and the predictions of networks trained with them.

The conventions are those of neural-tangents, on which the NTGA code is built: each weight is
W_std / sqrt(fan-in) times a standard normal parameter, each bias b_std times one; the average
of a convolution includes its zero padding. Everything is float64 and differentiable with
respect to the images.

Let k be the covariance of two images' pre-activations and q1, q2 their variances. A
nonlinearity f maps the covariance to E[f(u) f(v)] and multiplies the tangent kernel by
E[f'(u) f'(v)], for (u, v) normal with those moments.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]
PartGradients: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

ROWS = 32  # rows of a kernel computed together, which bounds the memory
NOBODY = -1  # label of an image that only pads a part
_W_VARIANCE = 1.76
_B_VARIANCE = 0.18
_WINDOW = 5  # side of a convolution's window
# Squared sine of the angle below which two images are treated as equal; rounding errors reach
# 1e-15.
_ALIGNED = 1e-12


def fnn_ntk(x1: Tensor, x2: Tensor) -> Tensor:
    """Return the tangent kernel of 5 x [Dense, Erf], including the output layer.

    Args:
        x1: images, float64 [N, ...] in [0, 1].
        x2: images, float64 [M, ...] in [0, 1].

    Returns:
        The kernel of one output unit, float64 [N, M].
    """
    x1, x2 = x1.flatten(1), x2.flatten(1)
    k = x1 @ x2.mT / x1.shape[1]
    q1, q2 = x1.square().mean(1)[:, None], x2.square().mean(1)[None, :]
    ntk = torch.zeros_like(k)
    for _ in range(5):
        k, q1, q2 = _dense(k), _dense(q1), _dense(q2)
        ntk = k + _W_VARIANCE * ntk
        k, derivative = erf_moments(q1, q2, k)
        q1, q2 = erf_moments(q1, q1, q1)[0], erf_moments(q2, q2, q2)[0]
        ntk = derivative * ntk
    return ntk


def cnn_ntk(x1: Tensor, x2: Tensor, stride: int = 2) -> Tensor:
    """Return the tangent kernel of 2 x [Conv 5x5, ReLU], Flatten, Dense, Dense, Dense.

    The dense layers have no nonlinearity between them. Flatten averages over equal positions
    of the two images, and a convolution maps equal positions to equal positions, so the
    covariance between two different positions is never needed.

    Args:
        x1: square images, float64 [N, 3, H, W] in [0, 1].
        x2: square images, float64 [M, 3, H, W] in [0, 1].
        stride: stride of both convolutions, which pad with zeros ("SAME").

    Returns:
        The kernel of one output unit, float64 [N, M].
    """
    p1, p2 = _patches(x1, stride), _patches(x2, stride)
    k = _dense(p1 @ p2.mT / p1.shape[2])  # [positions, N, M], like all maps below
    q1, q2 = (_dense(_average(_energy(x), x.shape[2], stride)) for x in (x1, x2))
    q1, q2 = q1[:, :, None], q2[:, None, :]
    value, derivative = relu_moments(q1, q2, k)
    ntk = derivative * k

    side = _outputs(x1.shape[2], stride)
    k = _dense(_average(value, side, stride))
    q1, q2 = (_dense(_average(q / 2, side, stride)) for q in (q1, q2))
    ntk = k + _W_VARIANCE * _average(ntk, side, stride)
    value, derivative = relu_moments(q1, q2, k)
    k, ntk = value.mean(0), (derivative * ntk).mean(0)

    for _ in range(3):
        k = _dense(k)
        ntk = k + _W_VARIANCE * ntk
    return ntk


def erf_moments(q1: Tensor, q2: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return E[erf(u) erf(v)] and E[erf'(u) erf'(v)] (Williams, NeurIPS 1996).

    Args:
        q1: variance of u.
        q2: variance of v.
        k: covariance of the two.
    """
    scale = (1 + 2 * q1) * (1 + 2 * q2)
    value = 2 / math.pi * (2 * k / scale.sqrt()).asin()
    return value, 4 / math.pi / (scale - 4 * k.square()).sqrt()


def relu_moments(q1: Tensor, q2: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return E[relu(u) relu(v)] and E[relu'(u) relu'(v)] (Cho and Saul, NeurIPS 2009).

    For the angle a between u and v they are (sin(a) sqrt(q1 q2) + (pi - a) k) / 2 pi and
    (pi - a) / 2 pi. The derivative of a is taken as 0 at a = 0. That is exact for an image
    paired with itself, whose angle stays 0; for two images that agree in a patch it is the
    mean of the two one-sided derivatives.

    Args:
        q1: variance of u, above 0.
        q2: variance of v, above 0.
        k: covariance of the two.
    """
    product = q1 * q2
    square = product - k.square()
    apart = square > _ALIGNED * product
    sine = apart * torch.where(apart, square, 1).sqrt()
    derivative = (math.pi - torch.atan2(sine, k)) / (2 * math.pi)
    return sine / (2 * math.pi) + derivative * k, derivative


def gradient_flow(kernel: Tensor, targets: Tensor, t: float) -> Tensor:
    """Return the coefficients A of a network trained by gradient flow from 0 for a time t.

    The network's output at x is K(x, block) A with A = K^-1 (I - exp(-K t / (N C))) Y: the
    loss is |f - Y|^2 / (2 N C) and the learning rate 1, as in neural-tangents'
    gradient_descent_mse. K is regularised by 1e-4 times its mean diagonal, as in the NTGA code.

    A is also the integral of exp(-K s) Y over s from 0 to t / (N C), a block of a single matrix
    exponential (Van Loan 1978). The derivative of an eigendecomposition would divide by
    differences of eigenvalues.

    Args:
        kernel: K, the kernel of the block, float64 [N, N].
        targets: Y, one-hot labels, float64 [N, C].
        t: the training time.

    Returns:
        A, float64 [N, C].
    """
    count, classes = targets.shape
    kernel = kernel + 1e-4 * kernel.diagonal().mean() * torch.eye(count).to(kernel)
    top = torch.cat([-kernel, targets], 1) * (t / targets.numel())
    flow: Tensor = torch.linalg.matrix_exp(functional.pad(top, (0, 0, 0, classes)))
    return flow[:count, count:]


def held_out_gradient(
    kernel: Kernel,
    x: Tensor,
    targets: Tensor,
    held_out: Iterable[tuple[Tensor, Tensor]],
    t: float,
    gradients: PartGradients | None = None,
) -> Tensor:
    """Return the gradient of the held-out loss with respect to the block's images.

    The loss is the summed cross-entropy, on the held-out images, of the infinitely wide
    network that gradient flow trains on the block.

    Args:
        kernel: the network's tangent kernel.
        x: the block, float64 [N, 3, H, W] in [0, 1].
        targets: its one-hot labels, float64 [N, C].
        held_out: parts of images float64 [V, 3, H, W] and labels int64 [V]; images labelled
            `NOBODY` do not count in the loss.
        t: training time of the gradient flow.
        gradients: `part_gradients` of the kernel, captured; None: uncaptured.

    Returns:
        The gradient, float64 [N, 3, H, W].
    """
    gradients = gradients or partial(part_gradients, kernel)
    x = x.detach().requires_grad_()
    rows = [checkpoint(kernel, part, x, use_reentrant=False) for part in x.split(ROWS)]
    coefficients = gradient_flow(torch.cat(rows), targets, t)
    to_x, to_coefficients = torch.zeros_like(x), torch.zeros_like(targets)
    for images, labels in held_out:
        part = gradients(x.detach(), coefficients.detach(), images, labels)
        to_x += part[0]
        to_coefficients += part[1]
    return to_x + torch.autograd.grad(coefficients, x, to_coefficients)[0]


def part_gradients(
    kernel: Kernel, x: Tensor, coefficients: Tensor, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of a part's loss with respect to the block and its coefficients.

    Args:
        kernel: the network's tangent kernel.
        x: the block, float64 [N, 3, H, W] in [0, 1].
        coefficients: A of `gradient_flow`, float64 [N, C].
        images: the part, float64 [V, 3, H, W] in [0, 1].
        labels: its labels, int64 [V].

    Returns:
        Gradients with respect to `x`, [N, 3, H, W], and `coefficients`, [N, C], both float64.
    """
    x, coefficients = x.detach().requires_grad_(), coefficients.detach().requires_grad_()
    outputs = kernel(images, x) @ coefficients
    loss = functional.cross_entropy(outputs, labels, reduction="sum", ignore_index=NOBODY)
    to_x, to_coefficients = torch.autograd.grad(loss, (x, coefficients))
    return to_x, to_coefficients


def _dense(k: Tensor) -> Tensor:
    return _W_VARIANCE * k + _B_VARIANCE


def _outputs(size: int, stride: int) -> int:
    return -(-size // stride)


def _padding(size: int, stride: int) -> tuple[int, int]:
    """Return the numbers of zeros before and after; an odd total has one more after."""
    total = max((_outputs(size, stride) - 1) * stride + _WINDOW - size, 0)
    return total // 2, total - total // 2


def _patches(x: Tensor, stride: int) -> Tensor:
    """Return the values in each window of the first convolution, [positions, N, 75]."""
    padded = functional.pad(x, 2 * _padding(x.shape[2], stride))
    # A single copy of a view; functional.unfold copies one image at a time.
    windows = padded.unfold(2, _WINDOW, stride).unfold(3, _WINDOW, stride)
    return windows.permute(2, 3, 0, 1, 4, 5).flatten(3).flatten(0, 1)


def _energy(x: Tensor) -> Tensor:
    """Return the mean square of each pixel, [positions, N]."""
    return x.square().mean(1).flatten(1).mT


def _average(maps: Tensor, size: int, stride: int) -> Tensor:
    """Average maps [size**2, ...] over the windows of a convolution."""
    before, _ = _padding(size, stride)
    first = torch.arange(_outputs(size, stride), device=maps.device) * stride - before
    offset = torch.arange(size, device=maps.device) - first[:, None]
    seen = ((offset >= 0) & (offset < _WINDOW)).to(maps)
    windows = torch.kron(seen, seen) / _WINDOW**2
    return (windows @ maps.flatten(1)).reshape(-1, *maps.shape[1:])
