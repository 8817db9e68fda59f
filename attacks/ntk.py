"""Neural tangent kernels in closed form, and what a network trained with them predicts.

The conventions are those of neural-tangents, which the NTGA code is written with: each
weight is W_std / sqrt(fan-in) times a standard normal parameter, each bias b_std times
one; zero padding counts in the average of a convolution. Everything is float64 and
differentiable with respect to the images.

With k the covariance of two images' pre-activations and q1, q2 their variances, a
nonlinearity turns the covariance into E[f(u) f(v)] and multiplies the tangent kernel
by E[f'(u) f'(v)], for (u, v) normal with those moments.
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
Slopes: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

ROWS = 32  # of a kernel at once: bounds the memory
NOBODY = -1  # the label of an image that only fills a part
_W_VARIANCE = 1.76
_B_VARIANCE = 0.18
_WINDOW = 5  # side of a convolution's window
# Squared sine of the angle below which two images count as equal; rounding reaches 1e-15.
_ALIGNED = 1e-12


def fnn_ntk(x1: Tensor, x2: Tensor) -> Tensor:
    """Return the tangent kernel of 5 x [Dense, Erf], the output included.

    Args:
        x1: float64 [N, ...] in [0, 1].
        x2: float64 [M, ...].

    Returns:
        float64 [N, M], for one output unit.
    """
    x1, x2 = x1.flatten(1), x2.flatten(1)
    k = x1 @ x2.mT / x1.shape[1]
    q1, q2 = x1.square().mean(1)[:, None], x2.square().mean(1)[None, :]
    ntk = torch.zeros_like(k)
    for _ in range(5):
        k, q1, q2 = _dense(k), _dense(q1), _dense(q2)
        ntk = k + _W_VARIANCE * ntk
        k, slope = erf_moments(q1, q2, k)
        q1, q2 = erf_moments(q1, q1, q1)[0], erf_moments(q2, q2, q2)[0]
        ntk = slope * ntk
    return ntk


def cnn_ntk(x1: Tensor, x2: Tensor, stride: int = 2) -> Tensor:
    """Return the tangent kernel of 2 x [Conv 5x5, ReLU], Flatten, Dense, Dense, Dense.

    There is no nonlinearity between the dense layers. Flatten averages over equal
    positions of the two images, and a convolution keeps positions equal, so no
    covariance between two positions is ever needed.

    Args:
        x1: float64 [N, 3, H, W] in [0, 1], square.
        x2: float64 [M, 3, H, W].
        stride: of both convolutions, with zero padding ("SAME").

    Returns:
        float64 [N, M], for one output unit.
    """
    p1, p2 = _patches(x1, stride), _patches(x2, stride)
    k = _dense(p1 @ p2.mT / p1.shape[2])  # [positions, N, M], as all maps below
    q1, q2 = (_dense(_average(_energy(x), x.shape[2], stride)) for x in (x1, x2))
    q1, q2 = q1[:, :, None], q2[:, None, :]
    value, slope = relu_moments(q1, q2, k)
    ntk = slope * k

    side = _outputs(x1.shape[2], stride)
    k = _dense(_average(value, side, stride))
    q1, q2 = (_dense(_average(q / 2, side, stride)) for q in (q1, q2))
    ntk = k + _W_VARIANCE * _average(ntk, side, stride)
    value, slope = relu_moments(q1, q2, k)
    k, ntk = value.mean(0), (slope * ntk).mean(0)

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

    With the angle of (u, v): (sin sqrt(q1 q2) + (pi - angle) k) / 2 pi and
    (pi - angle) / 2 pi. The angle's derivative is taken as 0 at angle 0. An image beside
    itself stays at angle 0 wherever it moves, so there it is exact; for two images that
    agree in a patch it is the mean of the slopes from both sides.

    Args:
        q1: variance of u, above 0.
        q2: variance of v, above 0.
        k: covariance of the two.
    """
    product = q1 * q2
    square = product - k.square()
    apart = square > _ALIGNED * product
    sine = apart * torch.where(apart, square, 1).sqrt()
    slope = (math.pi - torch.atan2(sine, k)) / (2 * math.pi)
    return sine / (2 * math.pi) + slope * k, slope


def gradient_flow(kernel: Tensor, targets: Tensor, t: float) -> Tensor:
    """Return the coefficients A of a network trained by gradient flow from 0 for a time t.

    The network's output at x is K(x, block) A with A = K^-1 (I - exp(-K t / (N C))) Y: the
    loss is |f - Y|^2 / (2 N C) and the learning rate 1, as in neural-tangents'
    gradient_descent_mse. K is regularised by 1e-4 times its mean diagonal, as in the NTGA code.

    A is also the integral of exp(-K s) Y over s from 0 to t / (N C), which is a block of
    one matrix exponential (Van Loan 1978). Through eigenvectors the derivative would divide
    by the differences of eigenvalues.

    Args:
        kernel: float64 [N, N], of the block.
        targets: float64 [N, C], Y.
        t: the time.

    Returns:
        float64 [N, C].
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
    slopes: Slopes | None = None,
) -> Tensor:
    """Return the gradient of the held-out loss with respect to the block's images.

    The loss is the summed cross-entropy, on the held-out images, of the infinitely wide
    network that gradient flow trains on the block.

    Args:
        kernel: the network's tangent kernel.
        x: float64 [N, 3, H, W] in [0, 1], the block.
        targets: float64 [N, C], its labels, one-hot.
        held_out: parts of images float64 [V, 3, H, W] and labels int64 [V]; of an image
            labelled `NOBODY` nothing is asked.
        t: time of the flow.
        slopes: `part_slopes` of the kernel, captured; None: as it is.

    Returns:
        float64 [N, 3, H, W].
    """
    slopes = slopes or partial(part_slopes, kernel)
    x = x.detach().requires_grad_()
    rows = [checkpoint(kernel, part, x, use_reentrant=False) for part in x.split(ROWS)]
    coefficients = gradient_flow(torch.cat(rows), targets, t)
    to_x, to_coefficients = torch.zeros_like(x), torch.zeros_like(targets)
    for images, labels in held_out:
        found = slopes(x.detach(), coefficients.detach(), images, labels)
        to_x += found[0]
        to_coefficients += found[1]
    return to_x + torch.autograd.grad(coefficients, x, to_coefficients)[0]


def part_slopes(
    kernel: Kernel, x: Tensor, coefficients: Tensor, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of a part's loss with respect to the block and its coefficients.

    Args:
        kernel: the network's tangent kernel.
        x: float64 [N, 3, H, W], the block.
        coefficients: float64 [N, C], those of `gradient_flow`.
        images: float64 [V, 3, H, W], the part.
        labels: int64 [V].
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
    """Return the zeros before and after; where their number is odd, one more after."""
    total = max((_outputs(size, stride) - 1) * stride + _WINDOW - size, 0)
    return total // 2, total - total // 2


def _patches(x: Tensor, stride: int) -> Tensor:
    """Return what each window of the first convolution sees, [positions, N, 75]."""
    padded = functional.pad(x, 2 * _padding(x.shape[2], stride))
    # One copy of a view; functional.unfold copies image by image.
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
