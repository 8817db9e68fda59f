"""Cells with seeds of noise and training: which values are independent, in every report."""

import math
from typing import Any

import pandas as pd
import pytest
from report_cells import cell, frame, seeds, setting

from unlearnable_bench.errors import UserError
from unlearnable_bench.reports.failures import failure_tables
from unlearnable_bench.reports.paired import paired_tables
from unlearnable_bench.reports.quality import Quality
from unlearnable_bench.reports.radius_curves import RadiusCurves, radius_curves_data
from unlearnable_bench.reports.time_protection import time_protection_data
from unlearnable_bench.results.aggregate import aggregate
from unlearnable_bench.results.command import command_of
from unlearnable_bench.results.intervals import by_seed
from unlearnable_bench.results.pivot import cells, pivot
from unlearnable_bench.results.replicates import Design, independent, replicates, seed_pairs
from unlearnable_bench.results.statistics import compare_paired, rank_intervals
from unlearnable_bench.results.table import Entry, Table, entry_text
from unlearnable_bench.results.versions import earlier


def grid(attack: str, accuracies: dict[int, list[float]], **more: Any) -> list[dict[str, Any]]:
    """Return cells: the accuracies of learners 0, 1, ... of each noise seed."""
    return [
        cell(attack, accuracy, seed=seed, noise_seed=noise_seed, **more)
        for noise_seed, of_noise in accuracies.items()
        for seed, accuracy in enumerate(of_noise)
    ]


def crossed(attack: str, low: float, **more: Any) -> list[dict[str, Any]]:
    """Three noises 1 point apart, each with two learners 0.2 points apart."""
    return grid(attack, {n: [low + n - 0.1, low + n + 0.1] for n in range(3)}, **more)


def clean(accuracy: float, count: int = 2) -> list[dict[str, Any]]:
    return [cell("clean", accuracy, rho_u="0", seed=k, noise_seed=k) for k in range(count)]


def table(*parts: list[dict[str, Any]]) -> Table:
    return pivot("main", cells(frame(*(one for part in parts for one in part))), "rho_a")


def entries(found: Table) -> dict[str, Entry]:
    return {row.label: entry for row in found.rows if (entry := row.entries[0])}


def test_learners_of_one_noise_are_one_replicate_if_there_are_several_noises() -> None:
    pairs = [(0, 0), (0, 1), (0, 2), (4, 0), (4, 1)]
    assert replicates(pairs) == [[0, 1, 2], [3, 4]]
    assert independent(pairs, [10, 11, 15, 20, 22]).tolist() == [12, 21]
    assert independent(pairs, [10, 11, 15, math.nan, math.nan]).tolist() == [10, 11, 15]


def test_seeds_that_are_equal_in_noise_and_training_are_replicates() -> None:
    assert replicates([(0, 0), (1, 1)]) == [[0], [1]]
    assert Design.of([(0, 0), (1, 1)]) is None
    assert str(Design.of([(0, 0), (1, 0)])) == "2 noise seeds x 1 learner seed"
    assert str(Design.of([(0, 0), (0, 1), (1, 0)])) == "2 noise seeds x 1 to 2 learner seeds"


def test_cells_without_a_noise_seed_have_that_of_training() -> None:
    joined = pd.DataFrame({"seed": [3, 4], "noise_seed": [math.nan, 1.0]})
    assert seed_pairs(joined) == [(3, 3), (1, 4)]
    assert seed_pairs(joined[["seed"]]) == [(3, 3), (4, 4)]


def test_an_entry_is_the_mean_of_the_noises() -> None:
    # Means 12 and 21 of the noises: mean 16.5, deviation sqrt(2 * 4.5^2) = 6.36.
    found = table(grid("sem", {0: [10, 11, 15], 4: [20, 22]}), clean(90, 3))
    entry = entries(found)["sem"]
    assert entry.mean == 16.5
    assert entry.std == pytest.approx(4.5 * math.sqrt(2))
    assert entry.seeds == 2
    assert len(entry.keys) == 5
    assert found.notes[1] == (
        "Mean over 2 noise seeds x 2 to 3 learner seeds (Clean: 3 seeds), with the sample "
        "standard deviation."
    )
    assert found.notes[2].startswith("Learners of one noise are averaged first")


def test_clean_images_without_seeds_of_noise_have_not_fewer_cells() -> None:
    whole = entries(table(crossed("sem", 10), clean(90)))
    assert {label: each.marks for label, each in whole.items()} == {"clean": (), "sem": ()}
    fewer = entries(table(crossed("sem", 10)[:-2], crossed("rem", 20), clean(90, 1)))
    assert {label: each.marks for label, each in fewer.items()} == {
        "clean": ("fewer",), "sem": ("fewer",), "rem": (),
    }  # fmt: skip
    assert entry_text(fewer["sem"], " ± ") == "10.5 ± 0.7 (n=2)"


def test_a_missing_learner_is_no_missing_noise() -> None:
    found = table(crossed("sem", 10)[:-1], crossed("rem", 20))
    assert [each.marks for each in entries(found).values()] == [(), ()]
    assert "Mean over 3 noise seeds x 1 to 2 learner seeds" in found.notes[1]
    one = table(grid("sem", {5: [10, 12, 14]}), crossed("rem", 20))
    assert entry_text(entries(one)["sem"], " ± ") == "12.0 ± 2.0 (n=1)"


def test_the_only_finished_noise_of_several_is_one_of_fewer() -> None:
    # Its seeds are equal, as those of a plan without seeds of the noise.
    noises = grid("sem", {0: [10], 1: [12]})
    alone = [row | {"rho_a": "4/255"} for row in grid("sem", {0: [30]})]
    found = table(noises, alone, clean(90, 1))
    sem = next(row for row in found.rows if row.label == "sem")
    assert [entry and entry.marks for entry in sem.entries] == [(), ("fewer",)]
    assert found.notes[1].startswith(
        "Mean over 1 to 2 noise seeds x 1 learner seed (Clean: 1 seed), with"
    )


def test_one_noise_with_several_learners_is_never_bold() -> None:
    far = table(crossed("sem", 10), crossed("rem", 40), clean(90))
    assert entries(far)["sem"].best
    one = table(
        grid("sem", {5: [10, 10.1, 10.2]}), grid("rem", {5: [40, 40.1, 40.2]}), clean(90, 3)
    )
    assert not any(entry.best for entry in one.entries)
    assert "Nothing is bold: the best or the second-best method has one noise seed." in one.notes
    assert any(note.startswith("With one noise seed, the spread is") for note in one.notes)


def test_other_seeds_change_nothing_in_a_table_of_equal_seeds() -> None:
    usual = seeds("sem", [10, 12, 17]) + seeds("clean", [90, 91, 92], rho_u="0")
    named = [one | {"noise_seed": one["seed"]} for one in usual]
    assert table(usual) == table(named)
    assert table(usual).notes[1] == "Mean over 3 seeds, with the sample standard deviation."


def test_pairs_of_seeds_are_compared_with_equal_pairs() -> None:
    first = {(0, 0): 10.0, (0, 1): 12.0, (1, 0): 20.0, (1, 1): 24.0, (2, 0): 33.0}
    second = {(0, 0): 11.0, (0, 1): 12.0, (1, 0): 24.0, (1, 1): 25.0, (2, 1): 30.0}
    found = compare_paired(first, second, resample=False)
    # Differences -1, 0 of noise 0 and -4, -1 of noise 1: means -0.5 and -2.5.
    assert (found.n, found.mean) == (2, -1.5)
    assert found.left_out == ((2, 0), (2, 1))


def test_the_test_of_crossed_seeds_is_that_of_the_means_of_the_noises() -> None:
    first = {(n, s): 10.0 + n + 0.1 * s for n in range(4) for s in range(2)}
    second = {(n, s): 12.0 + n**2 - 0.3 * s for n in range(4) for s in range(2)}
    means = [{n: (of[n, 0] + of[n, 1]) / 2 for n in range(4)} for of in (first, second)]
    crossed, plain = compare_paired(first, second), compare_paired(*means)
    assert crossed.p_value == pytest.approx(plain.p_value)
    assert crossed.n == plain.n == 4


def test_a_rank_needs_three_noises_not_six_cells() -> None:
    two = {(n, s): float(n + s) for n in range(2) for s in range(3)}
    three = {(n, s): float(n + s) for n in range(3) for s in range(2)}
    found = rank_intervals({"two": two, "three": three})
    assert str(found["two"]) == "not computable, because 2 seeds cannot give a rank; it takes 3"
    assert found["three"].of == 1  # type: ignore[union-attr]


def test_two_noises_with_one_learner_seed_are_not_two_results_of_one_seed() -> None:
    assert by_seed([(0, 0), (1, 0)], [10.0, 20.0]) == {(0, 0): 10.0, (1, 0): 20.0}
    with pytest.raises(UserError, match=r"^noise seed 1, seed 0 has two different results"):
        by_seed([(1, 0), (1, 0)], [10.0, 20.0])


def test_the_paired_report_counts_noises_and_says_so() -> None:
    found = list(paired_tables(frame(*crossed("sem", 10), *crossed("rem", 40))))
    ranks, pairs = found
    (row,) = pairs.rows
    assert (row.label, row.entries[0].mean, row.entries[1].mean) == ("sem", 3, pytest.approx(-30))  # type: ignore[union-attr]
    for each in (ranks, pairs):
        assert each.notes[-1].startswith("Learners of one noise are averaged first")


def test_the_frame_of_means_counts_noises_and_learners() -> None:
    (row,) = aggregate(frame(*crossed("sem", 10))).to_dict("records")
    assert (row["test_accuracy_mean"], row["test_accuracy_std"]) == pytest.approx((11, 1))
    assert (row["seeds"], row["noise_seeds"], row["learner_seeds"]) == (3, 3, 2)
    assert "noise_seeds" not in aggregate(frame(*seeds("sem", [10, 12])))


def test_a_figure_averages_the_learners_of_each_noise() -> None:
    found = frame(*crossed("sem", 10), *crossed("sem", 30, rho_a="4/255"))
    data = radius_curves_data(found, spread="std")
    assert data["mean"].tolist() == pytest.approx([11, 31])
    assert data["high"].tolist() == pytest.approx([12, 32])
    assert set(map(str, data["design"])) == {"3 noise seeds x 2 learner seeds"}
    legend = RadiusCurves().render(found).legends[0].get_title().get_text()
    assert " ".join(legend.split()).startswith("Mean over 3 noise seeds x 2 learner seeds; bars")


def test_a_figure_says_how_many_seeds_in_the_words_of_a_table() -> None:
    noises = grid("sem", {0: [10], 1: [12]}) + grid("sem", {0: [30]}, rho_a="4/255")
    both = [one | {"rho_a": rho_a} for one in clean(90, 1) for rho_a in ("0", "4/255")]
    expected = "Mean over 1 to 2 noise seeds x 1 learner seed (Clean: 1 seed)"
    assert table(noises, both).notes[1].startswith(expected)
    legend = RadiusCurves().render(frame(*noises, *both)).legends[0].get_title().get_text()
    assert " ".join(legend.split()).startswith(expected)


def test_protection_is_the_difference_to_the_clean_learner_of_the_same_seed() -> None:
    more = {"rho_a": "4/255", "generation_device": "CPU", "generation_resumed": False}
    noises = grid("sem", {5: [10, 20], 6: [30, 40]}, **more)
    reference = [one | more | {"test_accuracy": 80.0 + one["seed"]} for one in clean(80)]
    (row,) = time_protection_data(frame(*noises, *reference), spread="std").to_dict("records")
    # 70 and 61 for noise 5, 50 and 41 for noise 6.
    assert (row["mean"], row["high"] - row["mean"]) == pytest.approx((55.5, 10 * math.sqrt(2)))
    assert row["seeds"] == 2


def test_a_table_of_poisons_has_one_value_per_noise_seed() -> None:
    measured = {"linf": 8.0, "l2": 1.0, "psnr": 30.0, "ssim": 0.9}
    found = frame(*grid("sem", {0: [1, 1, 1], 5: [1, 1, 1]}, **measured))
    found["psnr"] = [30.0, 30.0, 30.0, 36.0, 36.0, 36.0]
    (quality,) = Quality().render(found)
    entry = quality.rows[0].entries[2]
    assert entry is not None
    assert (entry.mean, entry.std, entry.seeds) == (33, pytest.approx(3 * math.sqrt(2)), 2)


def test_failed_cells_name_the_seed_of_their_noise_if_it_differs() -> None:
    failed = {"status": "failed", "reason": "why"}
    (found,) = failure_tables(frame(*grid("sem", {1: [0, 0]}, **failed)))
    texts = [entry.text for entry in found.rows[0].entries if entry]
    assert texts == ["0 (noise seed 1), 1", "why"]


def test_the_command_of_a_cell_names_both_seeds_if_they_differ() -> None:
    one, other = (
        frame(*grid("sem", {5: [1] * 6}, setting="")).to_dict("records")[k] for k in (5, 0)
    )
    assert command_of(one).endswith("--no-clean --seeds 5")
    assert command_of(other).endswith("--no-clean --noise-seeds 5 --seeds 0")


def test_a_failed_cell_of_another_noise_replaces_no_finished_one() -> None:
    usual = {"setting": setting(), "status": "done", "last_run": "1"}
    later = {"noise_seed": 1, "status": "failed", "last_run": "2", "setting": ""}
    done = cell("sem", 10.0, noise_seed=0, **usual)
    assert not earlier(frame(done, done | later)).any(axis=None)
    assert earlier(frame(done, done | later | {"noise_seed": 0}))["attack"].tolist() == [
        True,
        False,
    ]
