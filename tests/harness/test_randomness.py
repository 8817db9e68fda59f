"""The random numbers equal SplitMix64 over whole numbers, and are uniform."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from unlearnable_bench import Random

WORD = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mixed(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def splitmix64(state: int, count: int) -> list[int]:
    return [mixed((state + k * GAMMA) & WORD) for k in range(1, count + 1)]


def words(seed: int, stream: str, draws: int, count: int) -> list[int]:
    key = int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "big")
    start = mixed((key + mixed((draws * GAMMA) & WORD)) & WORD)
    return splitmix64(start, count)


def test_the_reference_gives_the_published_numbers() -> None:
    assert splitmix64(1234567, 5) == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


streams = st.tuples(st.integers(-(2**63), 2**64), st.text(max_size=12), st.integers(0, 2**62))


def at(seed: int, stream: str, draws: int) -> Random:
    random = Random(seed, stream)
    random.draws.fill_(draws)
    return random


@given(streams, st.integers(1, 40))
def test_uniform_takes_the_24_highest_bits(which: tuple[int, str, int], count: int) -> None:
    expected = np.array([w >> 40 for w in words(*which, count)], np.float32) / np.float32(2**24)
    values = at(*which).uniform(count)
    assert values.dtype == torch.float32
    np.testing.assert_array_equal(values.numpy(), expected)


@given(streams, st.integers(1, 40), st.integers(1, 2**20))
def test_integers_scale_the_24_highest_bits(
    which: tuple[int, str, int], count: int, high: int
) -> None:
    expected = [((w >> 40) * high) >> 24 for w in words(*which, count)]
    assert at(*which).integers(high, count).tolist() == expected


@given(streams, st.integers(0, 60))
def test_permutation_sorts_the_words(which: tuple[int, str, int], count: int) -> None:
    drawn = [w - (1 << 64) if w >> 63 else w for w in words(*which, count)]
    expected = sorted(range(count), key=drawn.__getitem__)
    permutation = at(*which).permutation(count).tolist()
    assert permutation == expected
    assert sorted(permutation) == list(range(count))


def test_a_shape_is_filled_in_order() -> None:
    flat, shaped = Random(3, "s").uniform(24), Random(3, "s").uniform(2, 3, 4)
    torch.testing.assert_close(shaped, flat.reshape(2, 3, 4), rtol=0, atol=0)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-8 / 255, 8 / 255), (2.0, 5.0)])
def test_uniform_is_uniform(low: float, high: float) -> None:
    values = Random(0, "uniform").uniform(20_000, low=low, high=high).double().numpy()
    assert values.min() >= np.float32(low)
    assert values.max() <= np.float32(high)
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.01


@pytest.mark.parametrize("high", [2, 3, 9, 17])
def test_integers_are_uniform(high: int) -> None:
    counts = np.bincount(Random(0, "integers").integers(high, 20_000).numpy(), minlength=high)
    assert len(counts) == high
    assert stats.chisquare(counts).pvalue > 0.01


def test_every_order_of_three_is_equally_likely() -> None:
    random = Random(0, "orders")
    orders = [tuple(random.permutation(3).tolist()) for _ in range(3000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.01


def test_seeds_streams_and_draws_are_independent() -> None:
    first = Random(0, "a")
    samples = [first.uniform(2000), first.uniform(2000)]
    samples += [Random(1, "a").uniform(2000), Random(0, "b").uniform(2000)]
    correlation = np.corrcoef(torch.stack(samples).numpy()) - np.eye(4)
    assert np.abs(correlation).max() < 0.08
    for i in range(4):
        for j in range(i):
            assert (samples[i] == samples[j]).float().mean() < 0.01


def test_every_call_is_one_draw() -> None:
    random = Random(0, "a")
    random.uniform(3)
    random.integers(5, 2, 2)
    random.permutation(4)
    assert random.draws.item() == 3
    assert random.draws.dtype == torch.int64


def test_the_number_of_draws_is_all_the_state() -> None:
    random = Random(7, "a")
    random.uniform(100)
    random.integers(9, 3)
    copy = at(7, "a", 2)
    for _ in range(2):
        torch.testing.assert_close(copy.uniform(50), random.uniform(50), rtol=0, atol=0)


def test_torch_generators_play_no_part() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = Random(0, "a").uniform(10)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(Random(0, "a").uniform(10), first)


def test_normal_numbers_are_normal() -> None:
    drawn = Random(0, "normal").normal(20_000).numpy()
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    assert np.isfinite(drawn).all()


@given(streams, st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 3))
def test_blocks_of_integers_are_parts_of_one_draw(
    which: tuple[int, str, int], sizes: list[int], columns: int
) -> None:
    stops = np.cumsum(sizes).tolist()
    parts = [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]
    whole, blocks = at(*which), at(*which)
    expected = whole.integers(17, stops[-1], columns)
    drawn = blocks.integer_blocks(17, stops[-1], columns, parts=parts)
    assert torch.equal(torch.cat(list(drawn)).long(), expected)
    assert torch.equal(blocks.uniform(3), whole.uniform(3))  # both have drawn once
