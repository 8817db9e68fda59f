"""Correlations of few points, against scipy, statsmodels and by hand."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.api import OLS

from unlearnable_bench.results.correlation import Correlation, Partial, PermutationP, correlate
from unlearnable_bench.results.intervals import Interval, NotComputable

# Integers: affine maps of them lose no difference to rounding.
POINTS = st.lists(
    st.tuples(*[st.integers(-50, 50)] * 3), min_size=5, max_size=7, unique_by=lambda point: point[0]
)
# Longer columns: permutations and resamples are then random.
MANY = np.random.default_rng(0).normal(size=(4, 12))


def ends(interval: Interval | NotComputable) -> tuple[float, float]:
    assert isinstance(interval, Interval), interval
    return interval.low, interval.high


def p_of(p: PermutationP | NotComputable) -> float:
    assert isinstance(p, PermutationP), p
    return p.value


def partial_of(found: Correlation) -> float:
    assert found.partial is not None
    assert isinstance(found.partial.r, float), found.partial.r
    return found.partial.r


def pearson_by_hand(x: Sequence[float], y: Sequence[float]) -> float:
    """Transcribe the definition, point by point."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    shared = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    spread = sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)
    return shared / math.sqrt(spread)


class TestPearson:
    def test_four_points_by_hand(self) -> None:
        # Deviations (-3, -1, 1, 3) / 2 and (-3, 1, -1, 3) / 2: r = 4 / 5.
        found = correlate((1, 2, 3, 4), (1, 3, 2, 4))
        assert found.pearson == pytest.approx(0.8)
        assert found.spearman == pytest.approx(0.8)
        # 8 of 24 pairings have |r| of .8 or 1: of either sign 1 of 1 and 3 of .8.
        assert found.pearson_p == PermutationP(8 / 24, 24, exact=True)
        # One degree of freedom: atanh .8 = log(9) / 2.
        low, high = math.log(9) / 2 - 1.959964, math.log(9) / 2 + 1.959964
        assert ends(found.fisher) == pytest.approx((math.tanh(low), math.tanh(high)), abs=1e-6)
        assert (found.n, found.dropped, found.partial) == (4, 0, None)

    @given(POINTS, st.sampled_from([0.8, 0.95]))
    @settings(max_examples=30, deadline=None)
    def test_it_agrees_with_scipy(self, points: list[tuple[int, int, int]], level: float) -> None:
        x, y, _ = np.array(points, dtype=float).T
        assume(len(set(y)) > 1)
        found = correlate(x, y, level=level, resamples=100)
        reference = stats.pearsonr(x, y)
        assert found.pearson == pytest.approx(reference.statistic, abs=1e-12)
        assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert found.pearson == pytest.approx(pearson_by_hand(x, y), abs=1e-12)
        if abs(reference.statistic) < 1 - 1e-12:
            interval = reference.confidence_interval(level)
            assert ends(found.fisher) == pytest.approx(tuple(interval), abs=1e-9)

    def test_ties_share_their_mean_rank(self) -> None:
        # Ranks (1.5, 1.5, 3, 4) and (1, 2, 3.5, 3.5).
        found = correlate((5, 5, 7, 90), (1, 2, 3, 3))
        assert found.spearman == pytest.approx(pearson_by_hand((1.5, 1.5, 3, 4), (1, 2, 3.5, 3.5)))
        assert found.pearson == pytest.approx(pearson_by_hand((5, 5, 7, 90), (1, 2, 3, 3)))


class TestPermutationP:
    @given(POINTS)
    @settings(max_examples=15, deadline=None)
    def test_up_to_seven_points_it_is_the_share_of_all_pairings(
        self, points: list[tuple[int, int, int]]
    ) -> None:
        x, y = ([float(point[column]) for point in points[:5]] for column in (0, 1))
        assume(len(set(y)) > 1)
        found = correlate(x, y, resamples=1)
        ranks = stats.rankdata(x).tolist(), stats.rankdata(y).tolist()
        for p, (one, other) in ((found.pearson_p, (x, y)), (found.spearman_p, ranks)):
            observed = abs(pearson_by_hand(one, other))
            pairings = [abs(pearson_by_hand(one, order)) for order in itertools.permutations(other)]
            share = sum(size >= observed - 1e-9 for size in pairings) / 120
            assert p_of(p) == pytest.approx(share)
            assert isinstance(p, PermutationP)
            assert (p.permutations, p.exact) == (120, True)

    def test_an_ordered_row_of_five_has_two_pairings_as_extreme(self) -> None:
        assert p_of(correlate(range(5), range(5)).pearson_p) == pytest.approx(2 / 120)
        assert p_of(correlate(range(5), range(5, 0, -1)).pearson_p) == pytest.approx(2 / 120)

    def test_a_skewed_null_is_not_doubled(self) -> None:
        # A fifth of the pairings puts the outliers together, for r = 1; the others have -1/4.
        found = correlate((0, 0, 0, 0, 1), (0, 0, 0, 0, 1))
        assert p_of(found.pearson_p) == pytest.approx(1 / 5)

    def test_no_correlation_has_p_one_whatever_its_sums_round_to(self) -> None:
        found = correlate((-0.3, -0.1, 0.1, 0.3), (0.1, -0.1, -0.1, 0.1))
        assert found.pearson == pytest.approx(0)
        assert p_of(found.pearson_p) == 1

    @pytest.mark.parametrize(
        ("n", "resamples", "permutations", "exact"),
        [(7, 10, 5040, True), (8, 9999, 9999, False), (8, 40320, 40320, True)],
    )
    def test_it_says_how_many_pairings_it_compared(
        self, n: int, resamples: int, permutations: int, exact: bool
    ) -> None:
        found = correlate(MANY[0][:n], MANY[1][:n], resamples=resamples)
        assert isinstance(found.pearson_p, PermutationP)
        assert (found.pearson_p.permutations, found.pearson_p.exact) == (permutations, exact)
        assert (found.pearson_p.value * 40320).is_integer() is exact

    def test_a_random_sample_never_gives_zero(self) -> None:
        found = correlate(range(30), range(30), resamples=999)
        assert found.pearson_p == PermutationP(1 / 1000, 999, exact=False)
        assert found.spearman_p == found.pearson_p

    def test_a_random_sample_is_near_the_exact_share_of_student(self) -> None:
        x, y = MANY[0], MANY[0] / 2 + MANY[1]
        reference = stats.pearsonr(x, y).pvalue
        assert 0.02 < reference < 0.9
        assert p_of(correlate(x, y).pearson_p) == pytest.approx(reference, abs=0.03)
        rho = stats.spearmanr(x, y)
        assert p_of(correlate(x, y).spearman_p) == pytest.approx(rho.pvalue, abs=0.03)


class TestBootstrap:
    def test_it_is_the_percentile_interval_of_resampled_points(self) -> None:
        x, y = MANY[0], MANY[0] + MANY[1]
        found = correlate(x, y, level=0.9)
        reference = stats.bootstrap(
            (x, y),
            lambda x, y, axis: stats.pearsonr(x, y, axis=axis).statistic,
            paired=True,
            method="percentile",
            confidence_level=0.9,
            rng=1,
        ).confidence_interval
        assert ends(found.bootstrap) == pytest.approx(tuple(reference), abs=0.03)
        assert isinstance(found.bootstrap, Interval)
        assert (found.bootstrap.method, found.bootstrap.level) == ("bootstrap (percentile)", 0.9)
        assert (found.resamples, found.resamples_left_out) == (9999, 0)

    def test_points_are_resampled_in_pairs(self) -> None:
        # Near a line, pairs keep r near 1; resampling x and y apart would spread it around 0.
        found = correlate(range(12), np.arange(12) + MANY[0] / 10)
        assert ends(found.bootstrap)[0] > 0.98

    def test_resamples_without_spread_are_left_out_and_counted(self) -> None:
        # Of 5 points, all draws are equal in 5 of 5^5 resamples: 16 of 9,999 expected.
        found = correlate((1, 2, 3, 4, 5), (2, 1, 4, 3, 5))
        assert 4 <= found.resamples_left_out <= 32
        assert found.resamples == 9999 - found.resamples_left_out
        assert isinstance(found.bootstrap, Interval)

    def test_too_many_resamples_without_spread_leave_a_reason(self) -> None:
        # The only different point is missing in (4/5)^5 = 33 % of the resamples.
        found = correlate((0, 0, 0, 0, 1), (1, 2, 4, 3, 5))
        assert isinstance(found.bootstrap, NotComputable)
        assert f"in {found.resamples_left_out} of 9999 resamples" in found.bootstrap.reason
        assert found.resamples_left_out / 9999 == pytest.approx((4 / 5) ** 5, abs=0.02)
        assert isinstance(found.fisher, Interval)

    @pytest.mark.parametrize(("n", "resampled"), [(4, False), (5, True)])
    def test_it_takes_five_points(self, n: int, resampled: bool) -> None:
        found = correlate(MANY[0][:n], MANY[1][:n])
        assert isinstance(found.bootstrap, Interval) is resampled
        if not resampled:
            few = NotComputable("4 points cannot give a bootstrap interval; it takes 5")
            assert found.bootstrap == few
            assert (found.resamples, found.resamples_left_out) == (0, 0)

    def test_a_seed_repeats_it_and_another_moves_it(self) -> None:
        x, y = MANY[:2]
        first = correlate(x, y, seed=4)
        assert correlate(x, y, seed=4) == first
        assert correlate(x, y, seed=5).bootstrap != first.bootstrap
        assert correlate(x, y, seed=5).pearson_p != first.pearson_p


class TestPartial:
    def test_one_given_quantity_follows_the_closed_formula(self) -> None:
        x, y, z = MANY[0] + MANY[2], MANY[1] + MANY[2], MANY[2]
        xy, xz, yz = (pearson_by_hand(*pair) for pair in ((x, y), (x, z), (y, z)))
        expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
        found = correlate(x, y, given={"z": z})
        assert partial_of(found) == pytest.approx(expected)
        # 12 points less one given quantity: 8 degrees of freedom.
        margin = 1.959964 / math.sqrt(8)
        z_value = math.atanh(expected)
        assert found.partial is not None
        assert found.partial.given == ("z",)
        assert ends(found.partial.interval) == pytest.approx(
            (math.tanh(z_value - margin), math.tanh(z_value + margin)), abs=1e-6
        )

    @given(st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_two_given_quantities_agree_with_statsmodels(self, seed: int) -> None:
        x, y, one, other = np.random.default_rng(seed).normal(10, 1, size=(4, 9))
        others = np.stack([np.ones(9), one, other], axis=1)
        residuals = [OLS(column, others).fit().resid for column in (x, y)]
        found = correlate(x, y, given={"one": one, "other": other}, resamples=10)
        assert partial_of(found) == pytest.approx(stats.pearsonr(*residuals).statistic)
        # The inverse of the correlation matrix holds the partial correlations as well.
        inverse = np.linalg.inv(np.corrcoef([x, y, one, other]))
        expected = -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])
        assert partial_of(found) == pytest.approx(expected)

    def test_a_common_cause_is_removed(self) -> None:
        # x = z + a, y = z + b; a, b and z are orthogonal.
        z = np.array([3, 3, -3, -3, 3, 3, -3, -3])
        a = np.array([1, -1, 1, -1, 1, -1, 1, -1])
        b = np.array([1, 1, 1, 1, -1, -1, -1, -1])
        found = correlate(z + a, z + b, given={"z": z})
        assert found.pearson == pytest.approx(0.9)
        assert partial_of(found) == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(("n", "value", "interval"), [(4, 0, 0), (5, 1, 0), (6, 1, 1)])
    def test_each_given_quantity_takes_one_more_point(
        self, n: int, value: int, interval: int
    ) -> None:
        x, y, one, other = MANY[:, :n]
        partial = correlate(x, y, given={"one": one, "other": other}).partial
        assert partial is not None
        assert isinstance(partial.r, float) is bool(value)
        assert isinstance(partial.interval, Interval) is bool(interval)
        if n == 4:
            assert partial.r == NotComputable(
                "4 points cannot give a partial correlation given 2; it takes 5"
            )
        if n == 5:
            assert partial.interval == NotComputable(
                "5 points cannot give a Fisher z interval; it takes 6"
            )

    def test_a_given_quantity_that_is_constant_gives_a_reason(self) -> None:
        partial = correlate(*MANY[:2], given={"radius": [3.0] * 12}).partial
        constant = NotComputable("radius is constant")
        assert partial == Partial(("radius",), constant, constant)

    @pytest.mark.parametrize("scale", [1.0, 1e-8, 1e200])
    def test_given_quantities_that_depend_on_each_other_give_a_reason(self, scale: float) -> None:
        others = {"one": MANY[2], "two": (3 - 0.7 * MANY[2]) * scale}
        found = correlate(*MANY[:2], given=others)
        assert found.partial is not None
        assert found.partial.r == NotComputable("one, two are linearly dependent")
        assert isinstance(found.pearson, float)

    def test_a_quantity_given_itself_gives_a_reason(self) -> None:
        others = {"other": MANY[2], "twice": 2 * MANY[1] + 5}
        partial = correlate(*MANY[:2], given=others, names=("a", "b")).partial
        assert partial is not None
        assert partial.r == NotComputable("b is a linear function of other, twice")
        partial = correlate(MANY[1], MANY[0], given=others, names=("a", "b")).partial
        assert partial is not None
        assert partial.r == NotComputable("a is a linear function of other, twice")

    def test_residuals_on_a_line_have_no_interval(self) -> None:
        partial = correlate(MANY[0], MANY[2] - MANY[0], given={"z": MANY[2]}).partial
        assert partial is not None
        assert partial.r == -1
        assert isinstance(partial.interval, NotComputable)
        assert "|r| = 1" in partial.interval.reason


class TestDeepWater:
    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_below_three_points_everything_has_a_reason(self, n: int) -> None:
        found = correlate(range(n), range(n), given={"z": range(n)})
        count = {0: "no points", 1: "1 point", 2: "2 points"}[n]
        reason = NotComputable(f"{count} cannot give a correlation; it takes 3")
        p_values = found.pearson_p, found.spearman_p
        assert {found.pearson, found.spearman, found.fisher, found.bootstrap, *p_values} == {reason}
        assert found.partial == Partial(("z",), reason, reason)
        assert found.n == n

    def test_three_points_have_r_and_p_but_no_interval(self) -> None:
        found = correlate((1, 2, 3), (1, 3, 2))
        assert found.pearson == pytest.approx(0.5)
        # Of the 6 pairings, 2 have |r| = 1 and 4 have .5.
        assert found.pearson_p == PermutationP(1.0, 6, exact=True)
        assert p_of(correlate((1, 2, 3), (1, 2, 4)).pearson_p) == pytest.approx(2 / 6)
        assert found.fisher == NotComputable("3 points cannot give a Fisher z interval; it takes 4")
        assert found.bootstrap == NotComputable(
            "3 points cannot give a bootstrap interval; it takes 5"
        )

    @pytest.mark.parametrize("value", [0.0, 0.1, 1e300, 1e-300, -7.0])
    def test_a_constant_quantity_is_named(self, value: float) -> None:
        constant = [value] * 12
        names = ("robustness", "protection")
        found = correlate(constant, MANY[0], names=names)
        assert found.pearson == found.bootstrap == NotComputable("robustness is constant")
        found = correlate(MANY[0], constant, names=names)
        assert found.spearman == found.fisher == NotComputable("protection is constant")

    def test_a_quantity_that_varies_only_by_rounding_is_constant(self) -> None:
        x = [0.3, 0.1 + 0.2, 0.3, 0.1 + 0.2, 0.3]
        assert correlate(x, range(5)).pearson == NotComputable("x is constant")
        # A relative spread of 1e-9 is a spread.
        assert correlate([1, 1 + 1e-9, 1 + 2e-9], (1, 2, 3)).pearson == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("slope", [2.0, -0.1, 1e-12, -3e250])
    def test_points_on_a_line_have_r_of_one_and_reasons_for_intervals(self, slope: float) -> None:
        x = MANY[0]
        found = correlate(x, slope * x + slope / 3)
        assert found.pearson == math.copysign(1, slope)
        assert found.spearman == math.copysign(1, slope)
        assert isinstance(found.fisher, NotComputable)
        assert "Fisher's z is infinite" in found.fisher.reason
        assert isinstance(found.bootstrap, NotComputable)
        assert p_of(found.pearson_p) == pytest.approx(1 / 10_000)

    @given(POINTS.filter(lambda points: len({point[1] for point in points}) > 1))
    @settings(max_examples=30, deadline=None)
    def test_intervals_stay_in_range_around_r(self, points: list[tuple[int, int, int]]) -> None:
        x, y, _ = zip(*points, strict=True)
        found = correlate(x, y, resamples=200, level=0.999)
        for interval in (found.fisher, found.bootstrap):
            if isinstance(interval, Interval):
                assert -1 <= interval.low <= interval.high <= 1
        if isinstance(found.fisher, Interval):
            assert isinstance(found.pearson, float)
            assert found.fisher.low < found.pearson < found.fisher.high

    def test_an_interval_near_one_does_not_leave_the_range(self) -> None:
        # Percentile resamples of five points are often two points only, where |r| is 1.
        low, high = ends(correlate((1, 2, 3, 4, 5), (1, 2, 3, 4, 4.9999)).bootstrap)
        assert 0.99 < low <= high <= 1

    def test_points_that_are_not_finite_are_left_out_of_everything(self) -> None:
        x, y, z = (column.copy() for column in MANY[:3])
        x[3], y[5], z[7] = math.nan, math.inf, -math.inf
        keep = np.isin(range(12), (3, 5, 7), invert=True)
        expected = correlate(x[keep], y[keep], given={"z": z[keep]})
        assert correlate(x, y, given={"z": z}) == replace(expected, dropped=3)
        assert correlate(x, y).dropped == 2

    @pytest.mark.parametrize("scale_x", [1e-300, 1e300])
    @pytest.mark.parametrize("scale_y", [1e-300, 1e300])
    def test_scales_neither_overflow_nor_vanish(self, scale_x: float, scale_y: float) -> None:
        x, y, z = MANY[:3]
        plain = correlate(x, y, given={"z": z})
        found = correlate(x * scale_x, y * scale_y, given={"z": z * scale_x})
        assert found.pearson == pytest.approx(plain.pearson)
        assert found.spearman == plain.spearman
        assert ends(found.bootstrap) == pytest.approx(ends(plain.bootstrap))
        assert partial_of(found) == pytest.approx(partial_of(plain))

    def test_the_largest_and_the_smallest_floats_have_a_correlation(self) -> None:
        found = correlate((1.7e308, -1.7e308, 5e-324, 0), (5e-324, 1e-323, 0, 1.5e-323))
        assert found.pearson == pytest.approx(pearson_by_hand((1, -1, 0, 0), (1, 2, 0, 3)))

    def test_columns_of_different_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="same length, got 3, 2"):
            correlate((1, 2, 3), (1, 2))
        with pytest.raises(ValueError, match="same length, got 3, 3, 4"):
            correlate((1, 2, 3), (1, 2, 3), given={"z": (1, 2, 3, 4)})

    def test_options_out_of_range_are_refused(self) -> None:
        with pytest.raises(ValueError, match="level"):
            correlate((1, 2, 3), (1, 2, 3), level=95)
        with pytest.raises(ValueError, match="resamples"):
            correlate((1, 2, 3), (1, 2, 3), resamples=0)


class TestInvariances:
    @pytest.mark.parametrize("n", [6, 12])
    @given(order=st.permutations(range(12)))
    @settings(max_examples=10, deadline=None)
    def test_the_order_of_points_changes_no_bit(self, n: int, order: list[int]) -> None:
        x, y, z = MANY[:3, :n]
        kept = [place for place in order if place < n]
        found = correlate(x[kept], y[kept], given={"z": z[kept]}, resamples=500)
        assert found == correlate(x, y, given={"z": z}, resamples=500)

    @given(POINTS)
    @settings(max_examples=20, deadline=None)
    def test_swapping_the_quantities_changes_no_bit(
        self, points: list[tuple[int, int, int]]
    ) -> None:
        x, y, z = zip(*points, strict=True)
        assume(len(set(y)) > 1)
        there = correlate(x, y, given={"z": z}, resamples=100)
        back = correlate(y, x, given={"z": z}, resamples=100)
        if isinstance(there.partial and there.partial.r, float):
            assert back == there
        else:
            assert replace(back, partial=None) == replace(there, partial=None)

    def test_swapping_many_points_keeps_the_random_numbers_too(self) -> None:
        assert correlate(MANY[0], MANY[1]) == correlate(MANY[1], MANY[0])

    @given(POINTS, st.integers(1, 1000), st.integers(-1000, 1000))
    @settings(max_examples=20, deadline=None)
    def test_another_unit_changes_nothing(
        self, points: list[tuple[int, int, int]], slope: int, shift: int
    ) -> None:
        x, y, z = np.array(points, dtype=float).T
        assume(len(set(y)) > 1)
        plain = correlate(x, y, given={"z": z}, resamples=100)
        found = correlate(slope * x + shift, y, given={"z": z - shift}, resamples=100)
        assert found.pearson == pytest.approx(plain.pearson)
        assert found.spearman == plain.spearman
        assert found.pearson_p == plain.pearson_p
        assert found.spearman_p == plain.spearman_p
        for one, other in ((found.fisher, plain.fisher), (found.bootstrap, plain.bootstrap)):
            if isinstance(other, Interval):
                assert ends(one) == pytest.approx(ends(other), abs=1e-6)
        if plain.partial and isinstance(plain.partial.r, float):
            assert partial_of(found) == pytest.approx(plain.partial.r, abs=1e-6)

    def test_a_falling_quantity_turns_the_sign_and_keeps_p(self) -> None:
        x, y = MANY[:2, :6]
        plain, turned = correlate(x, y), correlate(x, -y)
        assert isinstance(plain.pearson, float)
        assert isinstance(plain.spearman, float)
        assert turned.pearson == pytest.approx(-plain.pearson)
        assert turned.spearman == pytest.approx(-plain.spearman)
        assert (turned.pearson_p, turned.spearman_p) == (plain.pearson_p, plain.spearman_p)
        low, high = ends(plain.fisher)
        assert ends(turned.fisher) == pytest.approx((-high, -low))
