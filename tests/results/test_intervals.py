"""Means over seeds with their intervals, against scipy, statsmodels and by hand."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.intervals import Interval, NotComputable, by_seed, summarise

# Student's t with two degrees of freedom has a closed form: P(|T| < t) = t / sqrt(2 + t^2).
T_2 = 0.95 * math.sqrt(2) / math.sqrt(1 - 0.95**2)
ACCURACIES = st.lists(
    st.integers(0, 10_000).map(lambda hundredths: hundredths / 100), min_size=3, max_size=8
)


def ends(interval: Interval | NotComputable) -> tuple[float, float]:
    assert isinstance(interval, Interval), interval
    return interval.low, interval.high


def test_the_modules_import_neither_scipy_nor_statsmodels_nor_torch() -> None:
    code = (
        "import sys; import unlearnable_bench.results.statistics, "
        "unlearnable_bench.results.correlation; "
        "print([name for name in ('scipy', 'statsmodels', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestInterval:
    def test_clipping_moves_only_the_ends_outside_the_bounds(self) -> None:
        interval = Interval(-3, 50, 0.9, "t")
        assert interval.clipped((0, 100)) == Interval(0, 50, 0.9, "t")
        assert interval.clipped((-10, 40)) == Interval(-3, 40, 0.9, "t")

    def test_an_interval_wholly_outside_the_bounds_clips_to_the_nearer_bound(self) -> None:
        assert ends(Interval(101, 104).clipped((0, 100))) == (100, 100)

    @pytest.mark.parametrize(
        ("second", "overlap"),
        [((3, 4), True), ((2, 3), True), ((1.5, 1.6), True), ((0, 9), True), ((3.1, 4), False)],
    )
    def test_intervals_overlap_if_they_share_a_point(
        self, second: tuple[float, float], overlap: bool
    ) -> None:
        assert Interval(1, 3).overlaps(Interval(*second)) is overlap
        assert Interval(*second).overlaps(Interval(1, 3)) is overlap

    def test_a_reason_prints_as_a_sentence(self) -> None:
        assert str(NotComputable("x is constant")) == "not computable, because x is constant"


class TestSummary:
    def test_three_values_by_hand(self) -> None:
        summary = summarise([14, 10, 12])
        margin = T_2 * 2 / math.sqrt(3)
        assert (summary.mean, summary.std, summary.n) == (12, 2, 3)
        assert ends(summary.interval) == pytest.approx((12 - margin, 12 + margin))
        assert ends(summary.interval) == pytest.approx((7.031725, 16.968275), abs=1e-6)

    @given(ACCURACIES, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
    def test_it_agrees_with_scipy_and_statsmodels(self, values: list[float], level: float) -> None:
        summary = summarise(values, level=level)
        assert summary.mean == pytest.approx(np.mean(values), rel=1e-12)
        if len(set(values)) == 1:
            assert summary.std == 0
            assert ends(summary.interval) == (values[0], values[0])
            return
        reference = DescrStatsW(values)
        assert summary.std == pytest.approx(stats.tstd(values), rel=1e-12)
        assert ends(summary.interval) == pytest.approx(reference.tconfint_mean(1 - level), rel=1e-9)

    @given(ACCURACIES.flatmap(lambda values: st.tuples(st.just(values), st.permutations(values))))
    def test_the_order_of_the_values_changes_no_bit(
        self, orders: tuple[list[float], list[float]]
    ) -> None:
        assert summarise(orders[0]) == summarise(orders[1])

    @pytest.mark.parametrize("value", [0.0, 0.1, 10.0, 1 / 3, -7.3])
    @pytest.mark.parametrize("n", [3, 7, 10])
    def test_equal_values_give_a_flagged_zero_width_interval(self, value: float, n: int) -> None:
        summary = summarise([value] * n)
        assert (summary.mean, summary.std) == (value, 0)
        assert isinstance(summary.interval, Interval)
        assert ends(summary.interval) == (value, value)
        assert summary.interval.zero_width

    def test_values_that_differ_only_by_rounding_are_equal(self) -> None:
        assert summarise([0.1 + 0.2, 0.3, 0.3]).std == 0
        assert summarise([90.0, 90.01, 90.0]).std == pytest.approx(0.01 / math.sqrt(3))

    def test_an_interval_with_a_width_is_not_flagged(self) -> None:
        interval = summarise([10, 10, 10.01]).interval
        assert isinstance(interval, Interval)
        assert not interval.zero_width

    def test_two_values_have_a_deviation_but_no_interval(self) -> None:
        summary = summarise([1, 3])
        assert summary.mean == 2
        assert summary.std == pytest.approx(math.sqrt(2))
        few = NotComputable("2 values cannot give an interval; it takes 3")
        assert summary.interval == summary.shown == few

    def test_one_value_has_a_mean_only(self) -> None:
        summary = summarise([4.5])
        assert (summary.mean, summary.n) == (4.5, 1)
        assert summary.std == NotComputable("there is only one value")
        assert summary.interval == NotComputable("1 value cannot give an interval; it takes 3")

    def test_no_value_has_reasons_only(self) -> None:
        summary = summarise([])
        assert summary.mean == summary.std == NotComputable("there is no value")
        assert summary.interval == summary.shown == summary.mean
        assert summary.n == 0

    def test_values_that_are_not_finite_are_left_out_and_counted(self) -> None:
        summary = summarise([math.nan, 10, math.inf, 12, 14])
        assert (summary.mean, summary.n, summary.dropped) == (12, 3, 2)
        assert summary.interval == summarise([10, 12, 14]).interval
        assert summarise([math.nan]).dropped == 1

    def test_only_the_shown_interval_is_clipped(self) -> None:
        summary = summarise([99, 95, 100], bounds=(0, 100))
        assert ends(summary.interval)[1] > 100
        assert ends(summary.shown) == (ends(summary.interval)[0], 100)
        assert summarise([99, 95, 100]).shown == summary.interval

    @pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
    def test_squares_neither_overflow_nor_vanish(self, scale: float) -> None:
        summary, plain = summarise([10 * scale, 12 * scale, 14 * scale]), summarise([10, 12, 14])
        assert summary.mean == pytest.approx(12 * scale)
        assert summary.std == pytest.approx(2 * scale)
        assert np.array(ends(summary.interval)) / scale == pytest.approx(ends(plain.interval))

    @pytest.mark.parametrize("level", [0, 1, -0.5, 95])
    def test_a_level_outside_0_to_1_is_refused(self, level: float) -> None:
        with pytest.raises(ValueError, match="level"):
            summarise([1, 2, 3], level=level)


class TestBySeed:
    def test_the_same_result_read_twice_counts_once(self) -> None:
        assert by_seed([1, 0, 1], [2.5, 3, 2.5]) == {0: 3, 1: 2.5}
        assert by_seed([1, 1], [math.nan, math.nan]).keys() == {1}

    @pytest.mark.parametrize("second", [2.6, math.nan])
    def test_two_results_of_one_seed_are_refused(self, second: float) -> None:
        with pytest.raises(UserError, match=r"^seed 7 has two different results, 2\.5 and"):
            by_seed([7, 7], [2.5, second])
