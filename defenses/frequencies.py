"""Low frequencies of images, by the discrete cosine transform."""

import math

import torch
from torch import Tensor


def lowest(x: Tensor, kept: int) -> Tensor:
    """Return images without their higher frequencies; it does not synchronise with the host.

    The coefficients of the orthonormal two-dimensional DCT-II beyond the first `kept` rows and
    columns are set to 0. This is a projection of rows and of columns.

    Args:
        x: images, float [B, C, S, S].
        kept: number of rows and columns of coefficients to keep, 1 to S.
    """
    size = x.shape[-1]
    order = torch.arange(kept, device=x.device, dtype=torch.float64)[:, None]
    place = torch.arange(size, device=x.device, dtype=torch.float64)
    waves = (2 / size) ** 0.5 * (math.pi / size * order * (place + 0.5)).cos()
    waves = torch.where(order == 0, size**-0.5, waves)
    projection = (waves.T @ waves).to(x.dtype)
    return projection @ x @ projection
