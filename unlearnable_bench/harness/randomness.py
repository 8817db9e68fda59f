"""Random numbers that do not depend on compilation, graph capture, packing or resumption.

torch's generators have hidden state on the device: a captured graph, a second cell on the same
GPU or a resumed run would draw other numbers. Here a number is a pure function of (seed, stream,
number of previous draws, position) by the SplitMix64 finaliser (Steele et al., OOPSLA 2014). The
complete state is one integer tensor, and CPU and GPU draw the same numbers; of `normal`, up to the
rounding of logarithm and cosine.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.acceleration import fused
from unlearnable_bench.images import on_threads

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_WORD = 1 << 64
_WORDS = 1 << 16  # words that numpy computes at once
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
        self._part: tuple[int, Tensor] | None = None

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0, images: int = 0) -> Tensor:
        """Return float32 [*shape], uniform in [low, high).

        Args:
            shape: shape of the tensor.
            low: lower bound.
            high: upper bound.
            images: dimension of the images, which matters within `part` only.
        """
        if torch.compiler.is_dynamo_compiling():
            values: Tensor = low + (high - low) * _drawn_once(self._key, self.draws, shape)
        else:
            values = self._of_part(shape, images, lambda whole: self._uniform(whole, low, high))
        self.draws += 1
        return values

    def normal(self, *shape: int) -> Tensor:
        """Return float32 [*shape], standard normal (Box and Muller 1958)."""
        radius = (-2 * (1 - self.uniform(*shape)).log()).sqrt()
        return radius * (2 * math.pi * self.uniform(*shape)).cos()

    def integers(self, high: int, *shape: int) -> Tensor:
        """Return int64 [*shape], uniform in 0 to high - 1; `high` must be far below 2**24."""
        values = self._of_part(shape, 0, lambda whole: self._integers(whole, high))
        self.draws += 1
        return values

    def _uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        if self.draws.device.type == "cpu":
            heads = _heads(self._key, self.draws, shape, np.float32)
            return low + (high - low) * heads.mul_(2.0**-_BITS)
        return _uniform(self._key, self.draws, shape, low, high)

    def _integers(self, shape: tuple[int, ...], high: int) -> Tensor:
        if self.draws.device.type == "cpu" and not torch.compiler.is_dynamo_compiling():
            return _heads(self._key, self.draws, shape, np.int64, high)
        return _integers(self._key, self.draws, shape, high)

    @contextmanager
    def part(self, count: int, rows: Tensor) -> Iterator[None]:
        """Draw for some images of a batch what they get in the whole batch.

        Within it the first dimension of a draw (`images` names another) is that of these images,
        or of several views of each: all images, then all images again.

        Args:
            count: number of images of the whole batch.
            rows: places of these images in the batch, int64 [B].

        Examples:
            >>> import torch
            >>> from unlearnable_bench import Random
            >>> whole = Random(0, "example").uniform(2 * 5, 3).reshape(2, 5, 3)
            >>> random = Random(0, "example")
            >>> with random.part(5, torch.tensor([1, 4])):
            ...     some = random.uniform(2 * 2, 3).reshape(2, 2, 3)
            >>> bool((some == whole[:, [1, 4]]).all())
            True
        """
        self._part = count, rows
        try:
            yield
        finally:
            self._part = None

    def _of_part(
        self, shape: tuple[int, ...], images: int, draw: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        """Return a draw of this shape, within `part` the rows of a draw for the whole batch."""
        if self._part is None or not shape:
            return draw(shape)
        count, rows = self._part
        views, rest = divmod(shape[images], len(rows))
        if rest:
            raise UserError(
                f"a draw of shape {list(shape)} for a part of {len(rows)} of {count} images: "
                f"dimension {images} must be a multiple of {len(rows)}"
            )
        whole = draw((*shape[:images], views, count, *shape[images + 1 :]))
        return whole.index_select(images + 1, rows).flatten(images, images + 1)

    def integer_blocks(self, high: int, *shape: int, parts: Iterable[slice]) -> Iterator[Tensor]:
        """Return parts of the tensor of one call of `integers`, each made when it is asked for.

        Args:
            high: as for `integers`, at most 2**15.
            shape: shape of the whole tensor, which is never in memory.
            parts: slices of its first dimension, with start and stop.

        Returns:
            An iterator of int16 [stop - start, *shape[1:]].

        Examples:
            >>> from unlearnable_bench import Random
            >>> whole = Random(0, "example").integers(6, 5, 2)
            >>> parts = Random(0, "example").integer_blocks(6, 5, 2, parts=[slice(3, 5)])
            >>> bool((next(parts) == whole[3:]).all())
            True
        """
        draws, row = self.draws.clone(), math.prod(shape[1:])
        self.draws += 1

        def drawn(part: slice) -> Tensor:
            size, skipped = (part.stop - part.start, *shape[1:]), part.start * row
            if draws.device.type == "cpu":
                return _heads(self._key, draws, size, np.int16, high, skipped)
            # The product is one of tensors: compiled code would compute it in 32 bits.
            return _integers(self._key, draws, size, high, skipped * self._key[1]).short()

        return map(drawn, parts)

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


def _mixed(z: int) -> int:
    """Return `_mix` of a whole number, without the time of small tensors."""
    z %= _WORD
    z = (z ^ (z >> 30)) * _MIX_1 % _WORD
    z = (z ^ (z >> 27)) * _MIX_2 % _WORD
    return z ^ (z >> 31)


def _heads(
    key: Tensor,
    draws: Tensor,
    shape: tuple[int, ...],
    kind: type[np.generic],
    high: int | None = None,
    skipped: int = 0,
) -> Tensor:
    """Return the first 24 bits of a draw's words, [*shape], on the CPU.

    By numpy in blocks that fit into a cache, which takes a third of the time of torch's operators:
    each of them makes another copy in int64.

    Args:
        key: as in `Random`.
        draws: number of previous draws.
        shape: shape of the result.
        kind: type of the result.
        high: if given, the bits are scaled to whole numbers below it, as in `_integers`.
        skipped: number of words before the first one.
    """
    found = np.empty(math.prod(shape), kind)
    # Not `int(draws)`: within a captured step torch's own reading of a value is an error.
    start = _mixed(int(key.numpy()[0]) + _mixed(int(draws.numpy()) * _GAMMA))
    steps = np.arange(1, min(_WORDS, len(found)) + 1, dtype=np.uint64) * np.uint64(_GAMMA % _WORD)
    first, second = (np.uint64(factor % _WORD) for factor in (_MIX_1, _MIX_2))

    def draw(part: slice) -> None:
        z = steps[: part.stop - part.start]
        z = z + np.uint64((start + (skipped + part.start) * _GAMMA) % _WORD)
        z ^= z >> np.uint64(30)
        z *= first
        z ^= z >> np.uint64(27)
        z *= second
        z ^= z >> np.uint64(31)
        z >>= np.uint64(64 - _BITS)
        if high is not None:
            z *= np.uint64(high)
            z >>= np.uint64(_BITS)
        found[part] = z.view(np.int64)

    starts = range(0, len(found), _WORDS)
    on_threads(draw, (slice(k, min(k + _WORDS, len(found))) for k in starts))
    return torch.from_numpy(found.reshape(shape))
