"""Random numbers that do not depend on compilation, graph capture, packing or resumption.

torch's generators have hidden state on the device: a captured graph, a second cell on the same
GPU or a resumed run would draw other numbers. Here a number is a pure function of (seed, stream,
number of previous draws, position) by the SplitMix64 finaliser (Steele et al., OOPSLA 2014). The
complete state is one integer tensor, and CPU and GPU draw the same numbers.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from unlearnable_bench.harness.acceleration import fused

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_BITS = 24  # number of bits that a float32 represents exactly


class Random:
    """A seeded stream of random tensors on one device.

    Args:
        seed: seed of the run.
        stream: name of the stream; streams with different names are independent.
        device: device of the tensors.

    Attributes:
        draws: the number of draws so far, int64 scalar tensor: the complete state.

    Examples:
        >>> from unlearnable_bench import Random
        >>> random = Random(0, "example")
        >>> first, second = random.integers(6, 2, 3), random.integers(6, 2, 3)
        >>> first.shape, int(random.draws)
        (torch.Size([2, 3]), 2)
        >>> bool((Random(0, "example").integers(6, 2, 3) == first).all())
        True
    """

    def __init__(self, seed: int, stream: str, device: torch.device | str = "cpu") -> None:
        digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        # SplitMix64's increment is in the tensor because compiled code would multiply a constant
        # by 32-bit indices.
        self._key = torch.tensor([key, _GAMMA], dtype=torch.int64, device=device)
        self.draws = torch.zeros((), dtype=torch.int64, device=device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return float32 [*shape], uniform in [low, high)."""
        if torch.compiler.is_dynamo_compiling():
            values: Tensor = low + (high - low) * _drawn_once(self._key, self.draws, shape)
        else:
            values = _uniform(self._key, self.draws, shape, low, high)
        self.draws += 1
        return values

    def normal(self, *shape: int) -> Tensor:
        """Return float32 [*shape], standard normal (Box and Muller 1958)."""
        radius = (-2 * (1 - self.uniform(*shape)).log()).sqrt()
        return radius * (2 * math.pi * self.uniform(*shape)).cos()

    def integers(self, high: int, *shape: int) -> Tensor:
        """Return int64 [*shape], uniform in 0 to high - 1; `high` must be far below 2**24."""
        values = _integers(self._key, self.draws, shape, high)
        self.draws += 1
        return values

    def integer_blocks(self, high: int, *shape: int, parts: Iterable[slice]) -> Iterator[Tensor]:
        """Return parts of the tensor of one call of `integers`, each made when it is asked for.

        Args:
            high: as for `integers`.
            shape: shape of the whole tensor, which is never in memory.
            parts: slices of its first dimension, with start and stop.

        Returns:
            An iterator of int64 [stop - start, *shape[1:]].

        Examples:
            >>> from unlearnable_bench import Random
            >>> whole = Random(0, "example").integers(6, 5, 2)
            >>> parts = Random(0, "example").integer_blocks(6, 5, 2, parts=[slice(3, 5)])
            >>> bool((next(parts) == whole[3:]).all())
            True
        """
        draws, row = self.draws.clone(), math.prod(shape[1:])
        self.draws += 1
        return (
            # The product is one of tensors: compiled code would compute it in 32 bits.
            _integers(
                self._key,
                draws,
                (part.stop - part.start, *shape[1:]),
                high,
                part.start * row * self._key[1],
            )
            for part in parts
        )

    def permutation(self, count: int) -> Tensor:
        """Return the numbers 0 to count - 1 in random order, int64 [count]."""
        values = _words(self._key, self.draws, (count,))
        self.draws += 1
        return torch.argsort(values, stable=True)


def _mix(z: Tensor) -> Tensor:
    """Return SplitMix64's finaliser of int64 values read as 64-bit words."""
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, by: int) -> Tensor:
    # torch's shift of int64 is arithmetic; the mask turns it into a logical shift.
    return (z >> by) & ((1 << (64 - by)) - 1)


def _words(
    key: Tensor, draws: Tensor, shape: tuple[int, ...], skipped: Tensor | None = None
) -> Tensor:
    """Return the words of a draw, the first `skipped` / key[1] of them left out."""
    start = _mix(key[0] + _mix(draws * key[1]))
    if skipped is not None:
        start = start + skipped
    position = torch.arange(1, math.prod(shape) + 1, device=key.device)
    return _mix(start + position * key[1]).reshape(shape)


@fused
def _uniform(key: Tensor, draws: Tensor, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    unit = _shift_right(_words(key, draws, shape), 64 - _BITS).float() * 2.0**-_BITS
    return low + (high - low) * unit


# A compiler may recompute values in the backward pass to save memory, when `draws` has already
# changed. It does not recompute the result of a custom operator.
@torch.library.custom_op("unlearnable_bench::drawn_once", mutates_args=())
def _drawn_once(key: Tensor, draws: Tensor, shape: Sequence[int]) -> Tensor:
    return _uniform(key, draws, tuple(shape), 0.0, 1.0)


@_drawn_once.register_fake
def _(key: Tensor, _draws: Tensor, shape: Sequence[int]) -> Tensor:
    return key.new_empty(shape, dtype=torch.float32)


@partial(fused, any_size=True)
def _integers(
    key: Tensor,
    draws: Tensor,
    shape: tuple[int, ...],
    high: int,
    skipped: Tensor | None = None,
) -> Tensor:
    return (_shift_right(_words(key, draws, shape, skipped), 64 - _BITS) * high) >> _BITS
