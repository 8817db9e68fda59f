"""The draw of lambda, the mixing coefficient of mixup and CutMix."""

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from unlearnable_bench import Random

_KNOTS = 4096
_tables: dict[tuple[float, torch.device], Tensor] = {}


def beta(alpha: float, random: Random) -> Tensor:
    """Return a draw from Beta(alpha, alpha), float32 [1], without synchronising with the host.

    By inversion of a uniform number with a table of 4097 quantiles, interpolated linearly: the
    distribution function is exact at every quantile and differs by at most 1 / 4096 between
    them. For alpha = 1 the draw is the uniform number itself.

    Args:
        alpha: both parameters of the distribution, above 0.
        random: stream of the draw.
    """
    position = random.uniform(1) * _KNOTS
    below = position.long()
    table = _quantiles(alpha, position.device)
    return torch.lerp(table[below], table[below + 1], position - below)


def _quantiles(alpha: float, device: torch.device) -> Tensor:
    # Cached by the first call, which runs before any graph is captured.
    if (alpha, device) not in _tables:
        quantiles = stats.beta.ppf(np.linspace(0, 1, _KNOTS + 1), alpha, alpha)
        _tables[alpha, device] = torch.tensor(quantiles, dtype=torch.float32, device=device)
    return _tables[alpha, device]
