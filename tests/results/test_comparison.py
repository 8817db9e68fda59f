"""Two sets of results side by side."""

import json
import math
from typing import Any

import pandas as pd
import pytest
from report_cells import cell, frame, seeds, setting

from unlearnable_bench.errors import UserError
from unlearnable_bench.results.comparison import compare, rank_correlation


def test_cells_in_common_stand_side_by_side_whatever_the_preset() -> None:
    fast = frame(*seeds("sem", [10.0, 14.0]), cell("em", 80.0, rho_a="4/255"), cell("rem", 30.0))
    paper = frame(
        cell("em", 83.0, rho_a="8/510", preset="paper"),
        cell("sem", 11.0, preset="paper"),
        cell("tap", 5.0, preset="paper"),
        cell("rem", 29.0, preset="paper", defense="jpeg"),
    )
    both = compare(fast, paper)
    found = both[["attack", "rho_a", "first", "second"]].to_numpy().tolist()
    assert found == [["sem", "0", 10.0, 11.0], ["em", "4/255", 80.0, 83.0]]
    assert compare(fast, paper)["pairs"].tolist() == [1, 1]


def test_only_seeds_of_both_sides_are_compared() -> None:
    def noise(accuracy: float, noise_seed: int, seed: int = 0) -> dict[str, Any]:
        return cell("sem", accuracy, noise_seed=noise_seed, seed=seed)

    fast = frame(noise(10, 0), noise(12, 0, 1), noise(30, 1), noise(99, 2), cell("em", 1.0, seed=7))
    paper = frame(noise(11, 0), noise(13, 0, 1), noise(34, 1), noise(99, 0, 3), cell("em", 2.0))
    both = compare(fast, paper)
    # Learners of one noise are averaged first: (11 + 30) / 2.
    found = both[["attack", "first", "second", "pairs"]].to_numpy().tolist()
    assert found == [["sem", 20.5, 23.0, 3], ["em", 1.0, 2.0, 0]]


def test_pairs_on_the_same_images_are_counted() -> None:
    fast = frame(*seeds("sem", [10.0, 14.0], poison_sha256="a"), cell("em", 20.0))
    paper = frame(
        cell("sem", 11.0, poison_sha256="a"),
        cell("sem", 13.0, seed=1, poison_sha256="b"),
        cell("em", 21.0, seed=1),
    )
    both = compare(fast, paper)
    found = both[["attack", "pairs", "same"]].to_numpy().tolist()
    assert found == [["sem", 2, 1], ["em", 0, 0]]


def test_versions_of_a_method_are_compared_apart() -> None:
    def em(version: str, seed: int, accuracy: float) -> dict[str, Any]:
        attack = {"name": "em", "options": {}, "version": version}
        text = json.dumps({"poison": {"attack": attack}})
        return cell("em", accuracy, seed=seed, setting=text, last_run=f"2026-0{version}-01")

    fast = frame(em("1", 0, 22.0), em("2", 0, 17.5), em("2", 1, 16.8))
    paper = frame(em("1", 0, 17.4), em("2", 1, 19.0))
    both = compare(fast, paper)
    found = both[["first", "second", "pairs"]].to_numpy().tolist()
    assert sorted(found) == [[16.8, 19.0, 1], [22.0, 17.4, 1]]
    named = dict(zip(both["attack"], both["first"], strict=True))
    assert named.pop("em") == 16.8
    assert [name[:4] for name in named] == ["em #"]


def test_the_rank_correlation_is_spearmans() -> None:
    names = ["clean", "em", "rem", "sem", "tap"]
    one, other = [[5, 4, 3, 2, 1], [90, 30, 40, 20, 10]]
    frames = [frame(*map(cell, names, map(float, values))) for values in (one, other)]
    # 1 - 6 * (sum of squared rank differences, 2) / (5 * 24)
    assert rank_correlation(compare(*frames)) == pytest.approx(0.9)
    alike = frame(*(cell(name, 10.0) for name in names))
    assert math.isnan(rank_correlation(compare(frames[0], alike)))


def test_cells_of_one_name_are_the_same_or_not_compared() -> None:
    def setting(epochs: int, **poison: str) -> str:
        return json.dumps({"poison": poison, "training": {"epochs": epochs}, "labels": [epochs]})

    def results(text: str) -> pd.DataFrame:
        return frame(cell("sem", 1.0, setting=text))

    both = compare(results(setting(1, data="x")), results(setting(2, data="x")))
    assert both["differing"].tolist() == [["training.epochs"]]
    with pytest.raises(UserError, match=r"sem, rho_a 0 on shapes is not .*: poison.data differ"):
        compare(results(setting(1, data="x")), results(setting(1, data="y")))


def test_what_cannot_be_compared_is_refused() -> None:
    sem = frame(cell("sem", 1.0))
    with pytest.raises(UserError, match="no cell in common"):
        compare(sem, frame(cell("sem", 1.0, rho_a="4/255")))
    with pytest.raises(UserError, match=r"several presets \(fast, smoke\)"):
        compare(sem, frame(cell("sem", 1.0), cell("sem", 2.0, preset="fast")))
    with pytest.raises(UserError, match="no finished cell"):
        compare(sem, pd.DataFrame())


def test_a_radius_is_compared_with_the_same_radius_whatever_else_a_folder_holds() -> None:
    small = cell("sem", 40, rho_u="4/255", setting=setting(rho_u="4/255"))
    usual = cell("sem", 20, setting=setting(rho_u="8/255"))
    both = compare(frame(small, usual), frame(usual | {"test_accuracy": 25}))
    assert both[["rho_u", "first", "second"]].to_numpy().tolist() == [["8/255", 20.0, 25.0]]
