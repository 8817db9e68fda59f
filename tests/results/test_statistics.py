"""Paired comparisons, ranks and winners, against scipy, statsmodels and by hand."""

import gc
import math
from collections.abc import Iterator
from itertools import permutations
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from unlearnable_bench.results.statistics import (
    Interval,
    NotComputable,
    NoWinner,
    RankInterval,
    Summary,
    Winner,
    compare_paired,
    rank_intervals,
    summarise,
    winner,
)

# Student's t with two degrees of freedom has a closed form: P(|T| < t) = t / sqrt(2 + t^2).
T_2 = 0.95 * math.sqrt(2) / math.sqrt(1 - 0.95**2)


def ends(interval: Interval | NotComputable) -> tuple[float, float]:
    assert isinstance(interval, Interval), interval
    return interval.low, interval.high


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


class TestPaired:
    # Differences 2, 1, 4: mean 7/3, variance 7/3, t = sqrt(7), p = 1 - sqrt(7) / 3.
    FIRST = seeds(10, 12, 15)
    SECOND = seeds(8, 11, 11)

    def test_three_seeds_by_hand(self) -> None:
        paired = compare_paired(self.FIRST, self.SECOND)
        assert paired.mean == pytest.approx(7 / 3)
        assert paired.t == pytest.approx(math.sqrt(7))
        assert paired.p_value == pytest.approx(1 - math.sqrt(7) / 3)
        margin = T_2 * math.sqrt(7) / 3
        assert ends(paired.interval) == pytest.approx((7 / 3 - margin, 7 / 3 + margin))
        assert (paired.n, paired.seeds, paired.left_out) == (3, (0, 1, 2), ())
        assert paired.bootstrap == NotComputable(
            "3 common seeds cannot give a bootstrap interval; it takes 5"
        )

    def test_values_are_paired_by_seed_and_not_by_place(self) -> None:
        shuffled = {seed: self.SECOND[seed] for seed in (2, 0, 1)}
        assert compare_paired(self.FIRST, shuffled) == compare_paired(self.FIRST, self.SECOND)

    def test_seeds_without_a_pair_are_left_out_and_reported(self) -> None:
        first = {**self.FIRST, 9: 80.0, 7: math.nan}
        second = {**self.SECOND, -1: 3.0, 7: 5.0}
        paired = compare_paired(first, second)
        assert paired.left_out == (-1, 7, 9)
        assert paired.seeds == (0, 1, 2)
        assert paired.t == compare_paired(self.FIRST, self.SECOND).t

    @given(
        st.lists(
            st.tuples(st.integers(0, 9999), st.integers(0, 9999)), min_size=3, max_size=10
        ).filter(lambda rows: len({one - other for one, other in rows}) > 1)
    )
    @settings(max_examples=50, deadline=None)
    def test_it_agrees_with_scipy_and_statsmodels(self, rows: list[tuple[int, int]]) -> None:
        first, second = np.array(rows).T / 100
        paired = compare_paired(seeds(*first), seeds(*second))
        reference = stats.ttest_rel(first, second)
        assert paired.t == pytest.approx(reference.statistic, rel=1e-6, abs=1e-9)
        assert paired.p_value == pytest.approx(reference.pvalue, rel=1e-6)
        interval = DescrStatsW(first - second).tconfint_mean(0.05)
        assert ends(paired.interval) == pytest.approx(interval, rel=1e-6, abs=1e-9)

    def test_swapping_the_methods_turns_the_sign(self) -> None:
        there = compare_paired(self.FIRST, self.SECOND)
        back = compare_paired(self.SECOND, self.FIRST)
        assert isinstance(there.mean, float)
        assert isinstance(there.t, float)
        assert (back.mean, back.t, back.p_value) == (-there.mean, -there.t, there.p_value)
        low, high = ends(there.interval)
        assert ends(back.interval) == pytest.approx((-high, -low))

    def test_two_common_seeds_give_a_mean_difference_only(self) -> None:
        paired = compare_paired(seeds(1, 4), seeds(0, 1))
        assert paired.mean == 2
        few = NotComputable("2 common seeds cannot give a t-test; it takes 3")
        assert paired.t == paired.p_value == paired.interval == few

    def test_no_common_seed_gives_reasons_only(self) -> None:
        paired = compare_paired({0: 1.0}, {1: 1.0})
        nothing = NotComputable("the two have no seed in common")
        found = {paired.mean, paired.t, paired.p_value, paired.interval, paired.bootstrap}
        assert found == {nothing}
        assert (paired.n, paired.left_out) == (0, (0, 1))

    @pytest.mark.parametrize("gap", [0.0, 10.0, -0.1])
    def test_equal_differences_have_no_t_and_a_flagged_interval(self, gap: float) -> None:
        # The subtractions round: 60.3 - 50.3 is not 50.1 - 40.1 in binary.
        second = seeds(50.1, 60.3, 70.7, 80.9, 90.11)
        first = {seed: value + gap for seed, value in second.items()}
        paired = compare_paired(first, second)
        same = NotComputable("the differences of all seeds are equal")
        assert paired.t == paired.p_value == paired.bootstrap == same
        assert paired.mean == pytest.approx(gap, abs=1e-9)
        assert isinstance(paired.interval, Interval)
        assert paired.interval.zero_width
        assert paired.interval.low == paired.mean

    @pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
    def test_squares_neither_overflow_nor_vanish(self, scale: float) -> None:
        first, second = ({k: v * scale for k, v in d.items()} for d in (self.FIRST, self.SECOND))
        paired, plain = compare_paired(first, second), compare_paired(self.FIRST, self.SECOND)
        assert paired.t == pytest.approx(math.sqrt(7))
        assert np.array(ends(paired.interval)) / scale == pytest.approx(ends(plain.interval))

    def test_a_constant_gap_in_all_but_one_seed_still_has_a_t(self) -> None:
        paired = compare_paired(seeds(1, 1, 1, 2), seeds(0, 0, 0, 0))
        assert paired.t == pytest.approx(1.25 / (0.5 / 2))

    def test_five_seeds_give_the_bca_interval_of_scipy(self) -> None:
        values = [3.0, 1.0, 4.5, 1.5, 9.0, 2.5]
        paired = compare_paired(seeds(*values), seeds(0, 0, 0, 0, 0, 0), seed=3)
        reference = stats.bootstrap((values,), np.mean, n_resamples=9999, rng=3).confidence_interval
        assert isinstance(paired.bootstrap, Interval)
        assert paired.bootstrap.method == "bootstrap (BCa)"
        assert ends(paired.bootstrap) == pytest.approx(tuple(reference), abs=1e-12)
        # Skewed differences: BCa is not the percentile interval.
        percentile = stats.bootstrap((values,), np.mean, method="percentile", rng=3)
        assert abs(paired.bootstrap.high - percentile.confidence_interval.high) > 0.1

    def test_four_common_seeds_give_no_bootstrap_interval_and_five_do(self) -> None:
        values = (3.0, 1.0, 4.5, 1.5, 9.0)
        zeros = seeds(0, 0, 0, 0, 0)
        assert isinstance(compare_paired(seeds(*values), zeros).bootstrap, Interval)
        assert compare_paired(seeds(*values[:4]), zeros).bootstrap == NotComputable(
            "4 common seeds cannot give a bootstrap interval; it takes 5"
        )

    def test_the_percentile_interval_takes_over_where_bca_is_degenerate(self) -> None:
        # Cubes of these underflow: the acceleration of BCa is 0 / 0.
        values = [3e-120, 1e-120, 4e-120, 1.5e-120, 9e-120]
        paired = compare_paired(seeds(*values), seeds(0, 0, 0, 0, 0))
        reference = stats.bootstrap(
            (np.array(values) * 1e120,), np.mean, method="percentile", rng=0
        ).confidence_interval
        assert isinstance(paired.bootstrap, Interval)
        assert paired.bootstrap.method == "bootstrap (percentile)"
        low, high = ends(paired.bootstrap)
        assert (low * 1e120, high * 1e120) == pytest.approx(tuple(reference))

    def test_the_bootstrap_repeats_for_a_seed_and_moves_with_it(self) -> None:
        values = np.random.default_rng(0).normal(size=(2, 20))
        first, second = seeds(*values[0]), seeds(*values[1])
        assert compare_paired(first, second) == compare_paired(first, second)
        moved = compare_paired(first, second, seed=1)
        assert moved.bootstrap != compare_paired(first, second).bootstrap


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_outside_0_to_1_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        compare_paired({}, {}, level=level)
    with pytest.raises(ValueError, match="level"):
        rank_intervals({}, level)


@pytest.fixture(scope="module")
def no_collection() -> Iterator[None]:
    """Spare a garbage collection in each call of statsmodels: a tenth of a second here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)
        yield


@pytest.mark.usefixtures("no_collection")
class TestRanks:
    # B - A is 9, 10, 11: t = 17.3, one-sided p = .0017 < .05 / 6.
    # C - A is 13, 15, 19: t = 8.88, one-sided p = .0062 < .05 / 5.
    # C - B is 4, 5, 8: t = 4.71, one-sided p = .0211 < .05, but not < .05 / 4.
    BY_HAND: ClassVar = {
        "C": seeds(23, 35, 29),
        "A": seeds(10, 20, 10),
        "B": seeds(19, 30, 21),
    }

    def test_three_methods_by_hand(self) -> None:
        assert rank_intervals(self.BY_HAND) == {
            "C": RankInterval(3, 2, 3, 3),
            "A": RankInterval(1, 1, 1, 3),
            "B": RankInterval(2, 2, 3, 3),
        }

    def test_the_step_to_the_third_test_is_where_holm_differs_from_no_adjustment(self) -> None:
        # .0211 <= alpha / 4 from alpha = .0844 on.
        assert rank_intervals(self.BY_HAND, 1 - 0.084)["B"] == RankInterval(2, 2, 3, 3)
        assert rank_intervals(self.BY_HAND, 1 - 0.085)["B"] == RankInterval(2, 2, 2, 3)

    def test_the_second_test_is_where_holm_differs_from_bonferroni(self) -> None:
        # .00622 is above alpha / 6 and below alpha / 5 for alpha in (.0311, .0373).
        assert rank_intervals(self.BY_HAND, 1 - 0.034)["A"] == RankInterval(1, 1, 1, 3)
        assert rank_intervals(self.BY_HAND, 1 - 0.031)["A"] == RankInterval(1, 1, 2, 3)

    def test_the_order_of_methods_and_seeds_changes_nothing(self) -> None:
        expected = rank_intervals(self.BY_HAND)
        for names in permutations(self.BY_HAND):
            shuffled = {name: dict(reversed(self.BY_HAND[name].items())) for name in names}
            found = rank_intervals(shuffled)
            assert found == expected
            assert tuple(found) == names

    def test_the_tests_are_paired(self) -> None:
        # Seeds differ by 100, methods by 1 +- .1: only pairs of a seed tell them apart.
        results = {"A": seeds(0, 100, 200, 300), "B": seeds(1, 101.1, 201, 300.9)}
        assert rank_intervals(results)["A"] == RankInterval(1, 1, 1, 2)

    def test_equal_means_share_the_smaller_rank(self) -> None:
        results = {
            "A": seeds(1, 2, 3),
            "B": seeds(3, 2, 1),
            "C": seeds(90, 91, 97),
            "D": seeds(0.1, 0.2, 0.4),
            "E": seeds(0.1, 0.5, 0.1),
        }
        # Equal in decimals, not in binary.
        assert summarise(results["D"].values()).mean != summarise(results["E"].values()).mean
        ranks = {name: found.rank for name, found in self.computed(results).items()}
        assert ranks == {"A": 3, "B": 3, "C": 5, "D": 1, "E": 1}

    def test_two_methods_with_equal_differences_stay_open(self) -> None:
        found = rank_intervals({"A": seeds(10, 10, 10), "B": seeds(12, 12, 12)})
        assert found == {"A": RankInterval(1, 1, 2, 2), "B": RankInterval(2, 1, 2, 2)}

    def test_a_method_with_two_seeds_gets_a_reason_and_does_not_count(self) -> None:
        found = rank_intervals({**self.BY_HAND, "D": seeds(1, 2), "E": seeds(1, math.nan)})
        assert found["D"] == NotComputable("2 seeds cannot give a rank; it takes 3")
        assert found["E"] == NotComputable("1 seed cannot give a rank; it takes 3")
        assert {name: found[name] for name in self.BY_HAND} == rank_intervals(self.BY_HAND)

    def test_methods_without_common_seeds_stay_open(self) -> None:
        far = {7: 1000.0, 8: 1001.0, 9: 1002.5}
        found = rank_intervals({"A": self.BY_HAND["A"], "far": far})
        assert found == {"A": RankInterval(1, 1, 2, 2), "far": RankInterval(2, 1, 2, 2)}

    def test_an_interval_holds_its_rank_where_seeds_differ(self) -> None:
        # On the common seeds A is clearly below B; over all of its seeds B's mean is lower.
        first = seeds(10, 20, 30)
        second = {**seeds(19, 30, 41), 3: -100.0, 4: -100.0}
        found = rank_intervals({"A": first, "B": second})
        assert found == {"A": RankInterval(2, 1, 2, 2), "B": RankInterval(1, 1, 2, 2)}

    def test_one_method_has_rank_one_and_none_has_nothing(self) -> None:
        assert rank_intervals({"A": seeds(1, 2, 4)}) == {"A": RankInterval(1, 1, 1, 1)}
        assert rank_intervals({}) == {}

    def test_equal_methods_are_rarely_told_apart(self) -> None:
        # Without adjustment, a third of the trials would tell two of five methods apart.
        rng = np.random.default_rng(0)
        wrong = 0
        for values in rng.normal(50, 1, size=(150, 5, 4)):
            results = {str(name): seeds(*row) for name, row in enumerate(values)}
            found = self.computed(results).values()
            wrong += any((row.low, row.high) != (1, 5) for row in found)
        assert wrong / 150 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)

    @given(
        st.lists(
            st.lists(st.integers(0, 9999), min_size=4, max_size=4), min_size=2, max_size=5
        ).map(lambda rows: {str(name): seeds(*row) for name, row in enumerate(rows)})
    )
    @settings(max_examples=30, deadline=None)
    def test_mirrored_accuracies_mirror_the_intervals(
        self, results: dict[str, dict[int, float]]
    ) -> None:
        mirrored = {
            name: {seed: -value for seed, value in values.items()}
            for name, values in results.items()
        }
        back = self.computed(mirrored)
        for name, row in self.computed(results).items():
            assert 1 <= row.low <= row.rank <= row.high <= row.of == len(results)
            assert (back[name].low, back[name].high) == (
                len(results) + 1 - row.high,
                len(results) + 1 - row.low,
            )

    @staticmethod
    def computed(results: dict[str, dict[int, float]]) -> dict[str, RankInterval]:
        found = rank_intervals(results)
        return {name: row for name, row in found.items() if isinstance(row, RankInterval)}


class TestWinner:
    LOW = summarise([10, 11, 12])
    NEXT = summarise([30, 31, 32])
    HIGH = summarise([80, 81, 82])

    def test_the_lowest_of_clearly_separated_methods_wins(self) -> None:
        column = {"REM": self.NEXT, "SEM": self.LOW, "EM": self.HIGH}
        assert winner(column, self.HIGH) == Winner("SEM", None)
        assert winner(column) == Winner("SEM", None)

    def test_one_method_alone_does_not_win(self) -> None:
        column = {"SEM": self.LOW, "REM": summarise([])}
        assert winner(column) == Winner(None, NoWinner.ALONE)
        assert winner({}) == Winner(None, NoWinner.ALONE)

    @pytest.mark.parametrize("values", [[10], [10, 11]])
    def test_below_three_seeds_nobody_wins(self, values: list[float]) -> None:
        few = summarise(values)
        assert winner({"SEM": few, "REM": self.NEXT}) == Winner(None, NoWinner.FEW_SEEDS)
        high = summarise([value + 50 for value in values])
        assert winner({"SEM": self.LOW, "REM": high}) == Winner(None, NoWinner.FEW_SEEDS)

    def test_a_third_method_with_one_seed_does_not_matter(self) -> None:
        column = {"SEM": self.LOW, "REM": self.NEXT, "EM": summarise([99])}
        assert winner(column) == Winner("SEM", None)

    @pytest.mark.parametrize("other", [[12, 11, 10], [11, 11, 11]])
    def test_tied_methods_do_not_win(self, other: list[float]) -> None:
        column = {"SEM": self.LOW, "REM": summarise(other)}
        assert winner(column) == Winner(None, NoWinner.TIE)

    def test_means_that_print_alike_are_tied(self) -> None:
        column = {"SEM": summarise([10.001] * 3), "REM": summarise([10.002] * 3)}
        assert winner(column) == Winner("SEM", None)
        assert winner(column, digits=3) == Winner("SEM", None)
        assert winner(column, digits=2) == Winner(None, NoWinner.TIE)

    def test_means_that_differ_only_by_rounding_are_tied(self) -> None:
        column = {"SEM": summarise([0.3] * 3), "REM": summarise([0.1 + 0.2] * 3)}
        assert winner(column) == Winner(None, NoWinner.TIE)

    def test_overlapping_intervals_have_no_winner(self) -> None:
        # Half widths are 4.97 * (std / 2): 2.48 and 9.94 around 11 and 20.
        column = {"SEM": self.LOW, "REM": summarise([16, 20, 24])}
        assert winner(column) == Winner(None, NoWinner.OVERLAP)
        column = {"SEM": self.LOW, "REM": summarise([20, 24, 28])}
        assert winner(column) == Winner("SEM", None)

    @pytest.mark.parametrize(
        ("clean", "name"), [(11.0, None), (11.1, "SEM"), (10.9, None), (math.nan, "SEM")]
    )
    def test_the_winner_is_below_clean(self, clean: float, name: str | None) -> None:
        column = {"SEM": self.LOW, "REM": self.NEXT}
        reason = None if name else NoWinner.NOT_BELOW_CLEAN
        assert winner(column, clean) == Winner(name, reason)

    def test_clean_may_be_a_summary_of_any_number_of_seeds(self) -> None:
        column = {"SEM": self.LOW, "REM": self.NEXT}
        assert winner(column, summarise([11])).reason is NoWinner.NOT_BELOW_CLEAN
        assert winner(column, summarise([94])).name == "SEM"
        assert winner(column, summarise([])).name == "SEM"

    def test_the_order_of_the_column_changes_nothing(self) -> None:
        column: dict[str, Summary] = {"SEM": self.LOW, "REM": self.NEXT, "EM": self.HIGH}
        found = {winner({name: column[name] for name in names}) for names in permutations(column)}
        assert found == {Winner("SEM", None)}
